"""The broker on Redis (7.0 or later) or Valkey.

Each operation is one script. With one server (a primary with its replicas, with Sentinels or
without) there is one lane; with a Redis Cluster there are as many as its URL says, each a broker of
its own, which is down when the primary that has its slot is.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import msgspec
import trio

from trioproxy.cluster.address import Address, parse_address
from trioproxy.cluster.broker import (
    ENTRIES_A_READ,
    OWNER_LOST,
    SURVEY_SECONDS,
    Addition,
    Joined,
    Known,
    Lease,
    Letter,
    News,
    Restored,
    Running,
    Terms,
)
from trioproxy.cluster.connecting import Seeker, find
from trioproxy.cluster.entries import Batch, Cursor, pack_batch, pack_outcome
from trioproxy.cluster.errors import (
    BrokerError,
    EntryTooLarge,
    Fenced,
    InterestLost,
    LogBehind,
    NotRunning,
    State,
)
from trioproxy.cluster.keys import (
    Account,
    Keys,
    Ref,
    account_of,
    alias_of,
    epoch_of,
    keys_of,
    mailbox_of,
    nodes_of,
    slot_of,
    survey_of,
)
from trioproxy.cluster.lane import Lane
from trioproxy.cluster.link import Argument
from trioproxy.cluster.news import news_of
from trioproxy.cluster.spending import WINDOW_SECONDS, Pace, Spent, of_bucket, of_window
from trioproxy.cluster.watching import WATCHED_BY_NOBODY, NodeWatch
from trioproxy.fanout.outcome import Outcome

_encoder = msgspec.msgpack.Encoder()


@asynccontextmanager
async def open_redis_brokers(
    url: str,
    node: str,
    terms: Terms | None = None,
    *,
    deadline: float = 2.0,
    watch: NodeWatch = WATCHED_BY_NOBODY,
) -> AsyncGenerator[Sequence[RedisBroker]]:
    """Have the brokers of all lanes for the length of the block, as this ``node``; no two nodes
    have one name.

    They need not be up, now or later (:meth:`~trioproxy.cluster.Broker.wait_up`). ``deadline`` is
    how many seconds each has to answer, or counts as down; ``watch`` is told of links and of what
    fails. Raises what :func:`parse_address` does.
    """
    address = parse_address(url)
    async with _open(address, range(address.lanes), node, terms, deadline, watch) as brokers:
        yield brokers


@asynccontextmanager
async def open_redis_broker(
    url: str,
    node: str,
    terms: Terms | None = None,
    *,
    lane: int = 0,
    deadline: float = 2.0,
    watch: NodeWatch = WATCHED_BY_NOBODY,
) -> AsyncGenerator[RedisBroker]:
    """Have the broker of one lane, as :func:`open_redis_brokers`."""
    async with _open(parse_address(url), [lane], node, terms, deadline, watch) as (broker,):
        yield broker


@asynccontextmanager
async def _open(
    address: Address,
    numbers: Sequence[int],
    node: str,
    terms: Terms | None,
    deadline: float,
    watch: NodeWatch,
) -> AsyncGenerator[list[RedisBroker]]:
    terms = terms or Terms()
    brokers: list[RedisBroker] = []
    async with trio.open_nursery() as nursery:
        for number in numbers:
            find_it = partial(find, address)
            if address.is_cluster:
                find_it = Seeker(address, slot_of(number)).find
            lane = Lane(number, node, terms, partial(find_it, deadline), deadline, watch)
            nursery.start_soon(lane.hold, name=f"lane {number} of the broker")
            brokers.append(RedisBroker(node, terms, lane))
        yield brokers
        nursery.cancel_scope.cancel(reason="the broker is closed")


class RedisBroker:
    """See :class:`~trioproxy.cluster.Broker`."""

    def __init__(self, node: str, terms: Terms, lane: Lane) -> None:
        self.node = node
        self.terms = terms
        self._lane = lane

    @property
    def up_since(self) -> float | None:
        return self._lane.up_since

    async def wait_up(self) -> None:
        await self._lane.wait_up()

    async def ping(self) -> float:
        _, age = await self._lane.run("ping", [epoch_of(lane := self._lane.number), nodes_of(lane)])
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
        _, node, state, about, last = await self._run_for(ref, "look")
        return Known(node.decode(), cast(State, state.decode()), about, int(last))

    async def resolve(self, alias: str) -> Ref | None:
        (of,) = await self._lane.run("resolve", [alias_of(alias, self._lane.number)])
        return None if of is None else Ref(*of.decode().split(":"))

    # -- of a node that reads ----------------------------------------------------------------------

    async def join(self, ref: Ref, *, revive: bool = False) -> Joined:
        reply = await self._run_for(ref, "join", int(revive))
        _, node, fence, left, last, head, about = reply
        return Joined(node.decode(), int(fence), left / 1000, int(last), head, about)

    async def keep_interest(self, refs: Sequence[Ref]) -> Sequence[float | BrokerError]:
        keys = [key for ref in refs for key in self._keys_of(ref)]
        reply = await self._lane.run("keep_interest", keys)
        return [_what_was_wrong(said) or said[1] / 1000 for said in reply]

    async def leave(self, ref: Ref) -> None:
        await self._run_for(ref, "leave")

    async def read(self, logs: Mapping[Ref, Cursor], mail: str, *, wait: float) -> News:
        mailbox = mailbox_of(self.node, self._lane.number)
        names = {self._keys_of(ref).log: ref for ref in logs}
        places = {mailbox: mail}
        places |= {name: f"{logs[ref].fence}-{logs[ref].seq}" for name, ref in names.items()}
        count = max(1, ENTRIES_A_READ // len(places))
        streams = await self._lane.read(places, count, wait)
        return news_of(streams, mailbox, mail, names, logs)

    async def send(self, node: str, letter: Letter) -> None:
        word, ref, _ = letter
        await self._lane.run("send", [mailbox_of(node, self._lane.number)], word, *ref)

    # -- of an owner -------------------------------------------------------------------------------

    async def renew(self, leases: Sequence[Lease]) -> Sequence[int | BrokerError]:
        keys = [key for lease in leases for key in self._keys_of(lease.ref)]
        given = [value for (_, of), fence in leases for value in (of, fence)]
        reply = await self._lane.run("renew", keys, *given)
        return [_what_was_wrong(said) or said[1] for said in reply]

    async def open(self, lease: Lease, head: bytes) -> None:
        await self._run_for(lease.ref, "open", lease.fence, head)

    async def publish(self, additions: Sequence[Addition]) -> Sequence[BrokerError | None]:
        results: list[BrokerError | None] = [None] * len(additions)
        keys: list[str] = []
        places: list[tuple[str | int, ...]] = []
        payloads: list[bytes] = []
        asked: list[int] = []
        for index, (lease, batch, after, alias) in enumerate(additions):
            try:
                payload = pack_batch(batch)
            except EntryTooLarge as error:
                results[index] = error
                continue
            of_it = self._keys_of(lease.ref)
            keys += (of_it.meta, of_it.log)
            place = str(lease.fence), after, batch.last, len(payload)
            places.append((*place, *self._named(lease.ref, alias)) if alias else place)
            payloads.append(payload)
            asked.append(index)
        if asked:
            given = _encoder.encode(places), b"".join(payloads)  # each argument costs something
            for pair, *said in await self._lane.run("publish", keys, *given):
                results[asked[pair - 1]] = _what_was_wrong(said)
        return results

    def _named(self, ref: Ref, alias: str) -> tuple[str, str]:
        return alias_of(alias, self._lane.number), ":".join(ref)

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
        self,
        lease: Lease,
        about: bytes,
        head: bytes | None,
        batch: Batch | None,
        *,
        is_wanted: bool = False,
    ) -> Restored:
        marked = b"" if head is None else b"h" + head
        seq, payload = (0, b"") if batch is None else (batch.last, pack_batch(batch))
        reply = await self._run_for(
            lease.ref, "restore", lease.fence, about, marked, seq, payload, int(is_wanted)
        )
        return Restored(int(reply[1]), bool(reply[2]))

    # -- of all nodes together ---------------------------------------------------------------------

    async def spend(self, account: Account, pace: Pace) -> Spent:
        return await self._spend(account, pace, 1, "")

    async def give_back(self, account: Account, pace: Pace, spent: Spent) -> None:
        await self._spend(account, pace, -1, spent.mark)

    async def _spend(self, account: Account, pace: Pace, cost: int, mark: str) -> Spent:
        counted = self._key_of(account, pace.kind)
        if pace.burst is not None:
            given = cost, pace.burst, str(pace.per_minute)
            is_let_in, taken = await self._lane.run("spend_bucket", counted, *given)
            return of_bucket(pace, bool(is_let_in), float(taken))
        most, width = int(pace.per_minute), int(WINDOW_SECONDS * 1000)
        reply = await self._lane.run("spend_window", counted, cost, most, width, mark)
        is_let_in, number, reset, wait, at = reply
        return of_window(pace, bool(is_let_in), number, reset / 1000, wait / 1000, at.decode())

    async def hold(self, account: Account, number: int, most: float) -> int:
        pool = self._key_of(account, "pool")
        reply = await self._lane.run("hold", pool, number, math.floor(most))
        return reply[1]

    async def keep_holding(self, account: Account, number: int) -> int:
        reply = await self._lane.run("keep_holding", self._key_of(account, "pool"), number)
        return reply[1]

    def _key_of(self, account: Account, kind: str) -> list[str]:
        return [account_of(account, kind, self._lane.number)]

    # -- of who asks other nodes -------------------------------------------------------------------

    async def depart(self) -> None:
        await self._lane.run("depart", [nodes_of(self._lane.number)])

    async def ask(self, survey: Ref, question: bytes, *, of: str | None = None) -> Sequence[str]:
        patience = int(SURVEY_SECONDS * 1000)
        keys = self._survey_of(survey), nodes_of(self._lane.number)
        reply = await self._lane.run("ask", keys, *survey, question, of or "", patience)
        return [node.decode() for node in reply]

    async def question(self, survey: Ref) -> bytes | None:
        (question,) = await self._lane.run("question", [self._survey_of(survey)])
        return question

    async def answer(self, survey: Ref, answer: bytes, *, to: str) -> None:
        keys = self._survey_of(survey), mailbox_of(to, self._lane.number)
        await self._lane.run("answer", keys, *survey, answer)

    async def answers(self, survey: Ref) -> Mapping[str, bytes]:
        reply = await self._lane.run("answers", [self._survey_of(survey)])
        pairs = zip(reply[::2], reply[1::2], strict=True)
        return {node.decode(): answer for node, answer in pairs if node}

    def _survey_of(self, survey: Ref) -> str:
        return survey_of(survey, self._lane.number)

    # -- scripts -----------------------------------------------------------------------------------

    async def _run_for(self, ref: Ref, name: str, *arguments: Argument) -> list[Any]:
        reply = await self._lane.run(name, self._keys_of(ref), *arguments, of=ref.generation)
        wrong = _what_was_wrong(reply)
        if wrong is not None:
            raise wrong
        return reply

    def _keys_of(self, ref: Ref) -> Keys:
        return keys_of(ref, self._lane.number)


def _what_was_wrong(reply: Sequence[Any]) -> BrokerError | None:
    match reply:
        case [b"not", state]:
            return NotRunning(cast(State, state.decode()))
        case [b"fenced", fence]:
            return Fenced(int(fence))
        case [b"behind", last]:
            return LogBehind(last)
        case [b"ceased"]:
            return InterestLost("this node's interest had run out")
        case _:
            return None
