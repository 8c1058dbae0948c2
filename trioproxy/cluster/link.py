"""A connection that is kept: one task makes it, and makes it anew whenever it is lost.

What is asked on it is pipelined, and replies come in order. Who stops waiting for a reply leaves
that order as it is: the reply is read when it comes, and goes nowhere. So a cancelled caller costs
the others nothing, and only what is wrong with the connection ends the connection.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Protocol

import anyio
import trio
from coredis.connection import BaseConnection
from coredis.exceptions import ConnectionError, NoScriptError, RedisError

from trioproxy.cluster.errors import BrokerDown, BrokerError
from trioproxy.cluster.refusals import first_of, translated

# coredis tells each attempt that failed with all that was raised on the way. Here it is told once.
logging.getLogger("coredis").setLevel(logging.CRITICAL)

FIRST_PAUSE = 0.05
"""Seconds before another attempt, doubled each time; each is drawn from half of it to all."""

Argument = str | bytes | int


class Asked(Protocol):
    """A command that is on its way. Waiting for it yields its reply."""

    @property
    def complete(self) -> bool: ...

    def __await__(self) -> Generator[Any, None, object]: ...


class Link:
    """One connection at a time. ``deadline`` is the seconds that making it may take, and an answer;
    ``longest_pause`` those between two attempts. ``on_change`` is told when it was made, when it is
    lost, and when it could not be made.

    ``up_since`` is the time (of trio) at which the present one was made; None while there is none,
    and ``error`` is why.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[BaseConnection]],
        deadline: float,
        longest_pause: float,
        on_change: Callable[[Link], None],
    ) -> None:
        self.up_since: float | None = None
        self.error: BrokerError = BrokerDown("there was no connection yet")
        self.deadline = deadline
        self._longest_pause = longest_pause
        self._on_change = on_change
        self._connect = connect
        self._connection: BaseConnection | None = None
        self._made = trio.lowlevel.ParkingLot()

    async def run(self) -> None:
        """Keep a connection. The body of a task: it ends by being cancelled, and the connection
        with it."""
        pause = FIRST_PAUSE
        while True:
            if await self._hold():
                pause = FIRST_PAUSE
            await trio.sleep(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, self._longest_pause)

    async def wait_up(self) -> None:
        """Wait until there is a connection. If cancelled, nothing has changed."""
        await trio.lowlevel.checkpoint()
        while self._connection is None:
            await self._made.park()

    def drop(self, why: str) -> None:
        """Give the connection up, if there is one: what is asked on it is answered no more. Another
        will be made."""
        if self._connection is not None:
            self._connection.invalidate(why)
            self._lose(BrokerDown(why))

    def ask(self, command: bytes, *arguments: Argument) -> Asked:
        """Send a command: without waiting, for its reply or for its turn. Raises
        :class:`BrokerDown` where there is no connection."""
        if self._connection is None:
            raise BrokerDown(f"not connected: {self.error}")
        try:
            return self._connection.create_request(command, *arguments)
        except (ConnectionError, anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            raise BrokerDown("the connection was lost") from error

    async def answer(self, asked: Asked, *, within: float | None = None) -> object:
        """The reply, within the deadline or so many seconds.

        Raises what :func:`translated` makes of a refusal, :class:`BrokerDown` where none came, and
        :exc:`NoScriptError`. If cancelled, the command is done all the same.
        """
        try:
            with trio.move_on_after(self.deadline if within is None else within):
                return await asked
        except NoScriptError:
            raise
        except (RedisError, OSError) as error:
            raise translated(error) from error
        raise BrokerDown("no answer in time")

    async def _hold(self) -> bool:
        """Make a connection, and keep it while it lasts. Returns whether it was made."""
        was_made = False
        try:
            async with trio.open_nursery() as nursery:
                # all of it: names, TLS, and the handshake with a broker that may have stopped
                with trio.fail_after(self.deadline):
                    connection = await self._connect()
                    await nursery.start(connection.run)
                was_made = True
                self._connection, self.up_since = connection, trio.current_time()
                self._made.unpark_all()
                self._on_change(self)
        except* (RedisError, OSError, trio.TooSlowError, BrokerError) as errors:
            self._lose(_told_by(first_of(errors)))
        else:
            if self._connection is connection:  # else it was given up, and that was told
                self._lose(BrokerDown("the connection was lost"))
        finally:
            self._connection = self.up_since = None
        return was_made

    def _lose(self, why: BrokerError) -> None:
        self._connection = self.up_since = None
        self.error = why
        self._on_change(self)


def _told_by(error: Exception) -> BrokerError:
    match error:
        case BrokerError():
            return error
        case trio.TooSlowError():
            return BrokerDown("no connection in time")
        case _:
            return translated(error)
