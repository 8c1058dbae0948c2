"""A part of the broker that is up or down for itself: the server that holds a lane's keys.

All keys of a lane lie in one slot, so each step can be one script, and each read one command. Two
connections, each kept by a task of its own for as long as the lane is open: one for commands,
pipelined, and one that waits for news.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import trio
from coredis.connection import BaseConnection
from coredis.exceptions import NoScriptError

from trioproxy.cluster.broker import Terms
from trioproxy.cluster.errors import BrokerError
from trioproxy.cluster.keys import mailbox_of
from trioproxy.cluster.link import Argument, Asked
from trioproxy.cluster.news import Streams
from trioproxy.cluster.refusals import NotPrimary
from trioproxy.cluster.scripts import script
from trioproxy.cluster.standing import Standing
from trioproxy.cluster.watching import NodeWatch

LONGEST_PAUSE = 2.0
"""Seconds between two attempts to connect."""

PING_EVERY = 1.0
"""Seconds between two looks at whether the broker answers."""

Connect = Callable[[str], Awaitable[BaseConnection]]
"""Makes a connection to the server that has the lane, under a name."""


class Lane:
    """That of this ``number``, as a node has it, while :meth:`hold` runs. ``deadline`` is how many
    seconds its server has to answer, or counts as down."""

    def __init__(
        self,
        number: int,
        node: str,
        terms: Terms,
        connect: Connect,
        deadline: float,
        watch: NodeWatch,
    ) -> None:
        self.number = number
        self._node = node
        self._terms = terms
        self._standing = Standing(number, watch)
        self._watch = watch
        # An owner has to be back, and to restore what it runs, while others still hold elections
        # back.
        pause = min(LONGEST_PAUSE, terms.lease / 6)
        self._commands, self._reader = (
            self._standing.add(partial(connect, f"trioproxy-{node}-{use}"), deadline, pause)
            for use in ("commands", "reader")
        )
        self._read: Asked | None = None  # the last one, which may still wait for who has left it
        self._is_reading = False

    async def hold(self) -> None:
        """Keep both connections. The body of a task: they end when it is cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._commands.run, name="commands to the broker")
            nursery.start_soon(self._reader.run, name="reader of the broker")
            nursery.start_soon(self._judge_links, name="judge of the broker's links")

    @property
    def up_since(self) -> float | None:
        """When (on trio's clock) the later of both connections was made; None while one is
        missing."""
        return self._standing.up_since

    async def wait_up(self) -> None:
        """Wait until both are there. If cancelled, nothing has changed."""
        await self._commands.wait_up()
        await self._reader.wait_up()

    async def run(
        self, name: str, keys: Sequence[str], *arguments: Argument, of: str = ""
    ) -> list[Any]:
        """What a script replies that is run for a generation, or for none.

        Raises :class:`BrokerDown`, :class:`BrokerRefused`. If cancelled, it is run all the same.
        """
        try:
            return await self._run(name, keys, *arguments, of=of)
        except BrokerError as error:
            self._watch.failed(name, error)
            raise

    async def _run(
        self, name: str, keys: Sequence[str], *arguments: Argument, of: str
    ) -> list[Any]:
        terms, found = self._terms, script(name)
        times = [int(seconds * 1000) for seconds in (terms.lease, terms.ttl, terms.retention)]
        given = (len(keys), *keys, of, self._node, *times, terms.max_entries, *arguments)
        link = self._commands
        try:
            try:
                reply = await link.answer(link.ask(b"EVALSHA", found.sha1, *given))
            except NoScriptError:
                reply = await link.answer(link.ask(b"EVAL", found.source, *given))
        except NotPrimary as error:
            self._drop(error)
            raise
        return cast(list[Any], reply)

    async def read(self, places: Mapping[str, str], count: int, wait: float) -> Streams:
        """What streams have after these places, up to ``count`` entries of each; waiting for
        something, up to ``wait`` seconds. One task at a time (:exc:`trio.BusyResourceError`).

        Raises as :meth:`run`. If cancelled, it may go on waiting: the next one ends it first.
        """
        if self._is_reading:
            raise trio.BusyResourceError("another task is reading")
        self._is_reading = True
        try:
            return await self._read_news(places, count, wait)
        except BrokerError as error:
            self._watch.failed("read", error)
            raise
        finally:
            self._is_reading = False

    async def _read_news(self, places: Mapping[str, str], count: int, wait: float) -> Streams:
        await self._free_reader()
        options: list[Argument] = [b"COUNT", count]
        if wait > 0:
            options += [b"BLOCK", max(1, int(wait * 1000))]
        self._read = self._reader.ask(b"XREAD", *options, b"STREAMS", *places, *places.values())
        reply = await self._answer_of_reader(self._read, wait)
        return cast(Streams, reply or {})

    async def _judge_links(self) -> None:
        """Give both connections up whenever a PING has no answer in time."""
        while True:
            await self._commands.wait_up()
            try:
                await self._commands.answer(self._commands.ask(b"PING"))
            except BrokerError as error:
                self._drop(error)
            await trio.sleep(PING_EVERY)

    async def _free_reader(self) -> None:
        """Let a read that waits for a caller who has left it return, by an empty letter.

        Whenever it arrives there, the letter is past that read's place: it cannot be missed, as a
        CLIENT UNBLOCK could.
        """
        if self._read is not None and not self._read.complete:
            mailbox = mailbox_of(self._node, self.number)
            await self.run("send", [mailbox], "", "", "")
            await self._answer_of_reader(self._read, 0)

    async def _answer_of_reader(self, asked: Asked, wait: float) -> object:
        try:
            return await self._reader.answer(asked, within=wait + self._reader.deadline)
        except BrokerError as error:
            if isinstance(error, NotPrimary):
                self._drop(error)
            elif not asked.complete:
                self._reader.drop(str(error))
            raise

    def _drop(self, why: BrokerError) -> None:
        """Give both up, which are to one server: those that are made next find the one that has the
        lane then."""
        self._commands.drop(str(why))
        self._reader.drop(str(why))
