"""The broker on Redis (7.0 or later) or Valkey.

Two connections, each kept by a task of its own for as long as the broker is open: one for commands,
pipelined, and one that waits for news. Each operation is one script. One server holds all keys (a
primary with its replicas, with Sentinels or without); the keys of one request share a slot, but the
mailboxes that scripts write to do not, so Redis Cluster is refused.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast, get_args

import trio
from coredis.exceptions import NoScriptError

from trioproxy.cluster.address import parse_address
from trioproxy.cluster.broker import (
    ENTRIES_A_READ,
    OWNER_LOST,
    Addition,
    Joined,
    Known,
    Lease,
    Letter,
    News,
    Restored,
    Running,
    Terms,
    Word,
)
from trioproxy.cluster.connecting import find
from trioproxy.cluster.entries import Batch, Cursor, Entry, Part, follow, pack_batch, pack_outcome
from trioproxy.cluster.errors import (
    BrokerError,
    EntryTooLarge,
    Fenced,
    InterestLost,
    LogBehind,
    NotRunning,
    State,
)
from trioproxy.cluster.keys import EPOCH, Ref, keys_of, mailbox_of
from trioproxy.cluster.link import Argument, Asked, Link
from trioproxy.cluster.refusals import NotPrimary
from trioproxy.cluster.scripts import script
from trioproxy.fanout.outcome import Outcome

PING_EVERY = 1.0
"""Seconds between two looks at whether the broker answers."""

NOBODY = Ref("", "")
"""What a letter is about that is only to wake who waits."""

Fields = Sequence[bytes]


@asynccontextmanager
async def open_redis_broker(
    url: str, node: str, terms: Terms | None = None, *, deadline: float = 2.0
) -> AsyncGenerator[RedisBroker]:
    """Have a broker for the length of the block, as this ``node``; no two nodes have one name.

    It need not be up, now or later (:meth:`~trioproxy.cluster.Broker.wait_up`). ``deadline`` is how
    many seconds it has to answer, or counts as down. Raises what :func:`parse_address` does.
    """
    address = parse_address(url)
    commands, reader = (
        Link(partial(find, address, deadline, f"trioproxy-{node}-{use}"), deadline)
        for use in ("commands", "reader")
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(commands.run, name="commands to the broker")
        nursery.start_soon(reader.run, name="reader of the broker")
        broker = RedisBroker(node, terms or Terms(), commands, reader)
        nursery.start_soon(broker.judge_link, name="judge of the broker's link")
        yield broker
        nursery.cancel_scope.cancel(reason="the broker is closed")


class RedisBroker:
    """See :class:`~trioproxy.cluster.Broker`."""

    def __init__(self, node: str, terms: Terms, commands: Link, reader: Link) -> None:
        self.node = node
        self.terms = terms
        self._commands = commands
        self._reader = reader
        self._read: Asked | None = None  # the last one, which may still wait for who has left it
        self._is_reading = False

    @property
    def up_since(self) -> float | None:
        since = self._commands.up_since, self._reader.up_since
        return None if None in since else max(cast(tuple[float, float], since))

    async def wait_up(self) -> None:
        await self._commands.wait_up()
        await self._reader.wait_up()

    async def judge_link(self) -> None:
        """Give both connections up whenever a PING has no answer in time. The body of a task."""
        while True:
            await self._commands.wait_up()
            try:
                await self._commands.answer(self._commands.ask(b"PING"))
            except BrokerError as error:
                self._commands.drop(str(error))
                self._reader.drop(str(error))
            await trio.sleep(PING_EVERY)

    async def ping(self) -> float:
        _, age = await self._run("ping", [EPOCH])
        return age / 1000

    # -- of whoever comes --------------------------------------------------------------------------

    async def elect(self, ref: Ref, about: bytes) -> Lease | Running:
        reply = await self._run_for(ref, "elect", about)
        if reply[0] == b"owner":
            return Lease(ref, int(reply[1]))
        _, holder, node, fence, left, state = reply
        of_holder = Ref(ref.request, holder.decode())
        return Running(of_holder, node.decode(), int(fence), left / 1000, state == b"closing")

    async def reap(self, ref: Ref) -> bool:
        reply = await self._run_for(ref, "reap", pack_outcome(OWNER_LOST))
        return reply[0] == b"lost"

    async def look(self, ref: Ref) -> Known:
        _, node, state, about = await self._run_for(ref, "look")
        return Known(node.decode(), cast(State, state.decode()), about)

    # -- of a node that reads ----------------------------------------------------------------------

    async def join(self, ref: Ref) -> Joined:
        _, node, fence, left, last, head, about = await self._run_for(ref, "join")
        return Joined(node.decode(), int(fence), left / 1000, int(last), head, about)

    async def keep_interest(self, ref: Ref) -> float:
        reply = await self._run_for(ref, "keep_interest")
        if reply[0] == b"lost":
            raise InterestLost("this node's interest had run out")
        return reply[1] / 1000

    async def leave(self, ref: Ref) -> None:
        await self._run_for(ref, "leave")

    async def read(self, logs: Mapping[Ref, Cursor], mail: str, *, wait: float) -> News:
        if self._is_reading:
            raise trio.BusyResourceError("another task is reading")
        self._is_reading = True
        try:
            await self._free_reader()
            mailbox = mailbox_of(self.node)
            names = {keys_of(ref).log.encode(): ref for ref in logs}
            places = [f"{fence}-{seq}" for fence, seq in logs.values()]
            count = max(1, ENTRIES_A_READ // (len(logs) + 1))
            options: list[Argument] = [b"COUNT", count]
            if wait > 0:
                options += [b"BLOCK", max(1, int(wait * 1000))]
            self._read = self._reader.ask(
                b"XREAD", *options, b"STREAMS", mailbox, *names, mail, *places
            )
            reply = await self._answer_of_reader(self._read, wait)
        finally:
            self._is_reading = False
        return _news(reply, mailbox.encode(), mail, names, logs)

    async def send(self, node: str, letter: Letter) -> None:
        word, ref, _ = letter
        await self._run("send", [mailbox_of(node)], word, *ref)

    async def _free_reader(self) -> None:
        """Let a read that waits for a caller who has left it return, by a letter to ourselves.

        Whenever it arrives there, the letter is past that read's place: it cannot be missed, as a
        CLIENT UNBLOCK could.
        """
        if self._read is not None and not self._read.complete:
            await self.send(self.node, Letter("wake", NOBODY, self.node))
            await self._answer_of_reader(self._read, 0)

    async def _answer_of_reader(self, asked: Asked, wait: float) -> object:
        try:
            return await self._reader.answer(asked, within=wait + self._reader.deadline)
        except BrokerError as error:
            if not asked.complete:
                self._reader.drop(str(error))
            raise

    # -- of an owner -------------------------------------------------------------------------------

    async def renew(self, lease: Lease) -> int:
        _, interested = await self._run_for(lease.ref, "renew", lease.fence)
        return interested

    async def open(self, lease: Lease, head: bytes) -> None:
        await self._run_for(lease.ref, "open", lease.fence, head)

    async def publish(self, additions: Sequence[Addition]) -> Sequence[BrokerError | None]:
        results: list[BrokerError | None] = [None] * len(additions)
        keys: list[str] = []
        given: list[Argument] = []
        asked: list[int] = []
        for index, (lease, batch, after) in enumerate(additions):
            try:
                payload = pack_batch(batch)
            except EntryTooLarge as error:
                results[index] = error
                continue
            of_it = keys_of(lease.ref)
            keys += (of_it.meta, of_it.log)
            given += (lease.fence, after, batch.last, payload)
            asked.append(index)
        if asked:
            reply = await self._run("publish", keys, *given)
            for index, said in zip(asked, reply, strict=True):
                results[index] = _what_was_wrong(said)
        return results

    async def close_if_empty(self, lease: Lease) -> bool:
        reply = await self._run_for(lease.ref, "close_if_empty", lease.fence)
        return reply[0] == b"closed"

    async def retire(self, lease: Lease) -> bool:
        reply = await self._run_for(lease.ref, "retire", lease.fence)
        return reply[0] == b"retired"

    async def finish(
        self, lease: Lease, outcome: Outcome, *, last: int, detail: bytes = b""
    ) -> None:
        payload = pack_outcome(outcome, detail)
        await self._run_for(lease.ref, "finish", lease.fence, last, payload)

    async def restore(
        self, lease: Lease, about: bytes, head: bytes | None, batch: Batch | None
    ) -> Restored:
        marked = b"" if head is None else b"h" + head
        seq, payload = (0, b"") if batch is None else (batch.last, pack_batch(batch))
        reply = await self._run_for(lease.ref, "restore", lease.fence, about, marked, seq, payload)
        return Restored(int(reply[1]), bool(reply[2]))

    # -- scripts -----------------------------------------------------------------------------------

    async def _run_for(self, ref: Ref, name: str, *arguments: Argument) -> list[Any]:
        reply = await self._run(name, keys_of(ref), *arguments, of=ref.generation)
        wrong = _what_was_wrong(reply)
        if wrong is not None:
            raise wrong
        return reply

    async def _run(
        self, name: str, keys: Sequence[str], *arguments: Argument, of: str = ""
    ) -> list[Any]:
        terms, found = self.terms, script(name)
        times = [int(seconds * 1000) for seconds in (terms.lease, terms.ttl, terms.retention)]
        given = (len(keys), *keys, of, self.node, *times, terms.max_entries, *arguments)
        link = self._commands
        try:
            try:
                reply = await link.answer(link.ask(b"EVALSHA", found.sha1, *given))
            except NoScriptError:
                reply = await link.answer(link.ask(b"EVAL", found.source, *given))
        except NotPrimary as error:
            link.drop(str(error))
            raise
        return cast(list[Any], reply)


def _what_was_wrong(reply: Sequence[Any]) -> BrokerError | None:
    match reply:
        case [b"not", state]:
            return NotRunning(cast(State, state.decode()))
        case [b"fenced", fence]:
            return Fenced(int(fence))
        case [b"behind", last]:
            return LogBehind(last)
        case _:
            return None


def _news(
    reply: object,
    mailbox: bytes,
    mail: str,
    names: Mapping[bytes, Ref],
    places: Mapping[Ref, Cursor],
) -> News:
    letters: list[Letter] = []
    logs: dict[Ref, tuple[Cursor, Sequence[Part]]] = {}
    streams = cast(dict[bytes, list[tuple[bytes, Fields]]], reply or {})
    for name, entries in streams.items():
        if name == mailbox:
            mail = entries[-1][0].decode()
            letters = [letter for _, fields in entries for letter in _letters(_pairs(fields))]
        else:
            ref = names[name]
            logs[ref] = follow(places[ref], [_entry(*entry) for entry in entries])
    return News(letters, mail, logs)


def _entry(entry_id: bytes, fields: Fields) -> Entry:
    fence, seq = entry_id.split(b"-")
    return Entry(int(fence), int(seq), _pairs(fields))


def _pairs(fields: Fields) -> dict[bytes, bytes]:
    return dict(zip(fields[::2], fields[1::2], strict=True))


def _letters(fields: dict[bytes, bytes]) -> list[Letter]:
    """The letter; none if it says what a later version may."""
    word = fields.get(b"w", b"").decode()
    if word not in get_args(Word):
        return []
    ref = Ref(fields[b"r"].decode(), fields[b"g"].decode())
    return [Letter(cast(Word, word), ref, fields[b"s"].decode())]
