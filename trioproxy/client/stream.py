"""A stream that goes on: connections come and go, and each event is given once and in order.

Every failure of a connection, and every cancellation, is handled in one way: the connection is
closed, and the next step makes another, which asks for what comes after the last event that was
received. What has been received is kept by :class:`~trioproxy.client.reading.Reading`.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from types import TracebackType

import trio

from trioproxy.client.backoff import Backoff, repeat
from trioproxy.client.calls import Asking, Calls
from trioproxy.client.connection import Connection
from trioproxy.client.errors import (
    AttemptFailed,
    Gap,
    GenerationGone,
    Refused,
    StreamBroken,
    UnexpectedAnswer,
)
from trioproxy.client.events import Event
from trioproxy.client.reading import Reading
from trioproxy.wire import Dialect, dialect_for


class GenerationStream:
    """An asynchronous iterator of events, and a context manager that closes its connection.

    Nothing is sent before the first event is asked for. One task at a time may iterate; any may
    close or cancel. If the iterating task is cancelled, the connection is closed and nothing is
    lost: iterated again, the stream goes on with the event after the last it gave.

    ``source`` is what starts the generation, or the id of one that exists.
    """

    def __init__(
        self,
        calls: Calls,
        source: Asking | str,
        *,
        after: int = 0,
        live: bool = False,
        max_attempts: int,
    ) -> None:
        self.generation_id: str | None = source if isinstance(source, str) else None
        """Known as soon as an answer has begun."""
        self.seq = after
        """That of the last event that was given."""
        self._calls = calls
        self._asking = source if isinstance(source, Asking) else None
        self._is_live = live
        self._max_attempts = max_attempts
        self._backoff = Backoff(max_attempts)
        self._reading: Reading | None = None
        self._connection: Connection | None = None
        self._turn: trio.CancelScope | None = None
        self._has_asked = False
        self._is_closed = False
        self._is_cancelled = False
        self._is_stopped = False

    # -- iterating ---------------------------------------------------------------------------------

    def __aiter__(self) -> GenerationStream:
        return self

    async def __anext__(self) -> Event:
        """The next event. Always a checkpoint.

        Raises :class:`Gap`, :class:`GenerationFailed`, :class:`GenerationGone`, :class:`Refused`,
        :class:`StreamBroken` or :class:`UnexpectedAnswer`; :exc:`trio.ClosedResourceError` once it
        is closed, and :exc:`trio.BusyResourceError` while another task waits for an event.
        """
        if self._turn is not None:
            raise trio.BusyResourceError("another task iterates this stream already")
        with trio.CancelScope() as self._turn:
            try:
                await trio.lowlevel.checkpoint()
                while not self._is_closed:
                    if self._reading is not None and self._reading.can_be_taken:
                        return self._take(self._reading)
                    await self._advance()
            except (Gap, StopAsyncIteration):
                raise
            except BaseException:
                # It closes first, and waits for nothing.
                await self._hang_up()  # noqa: ASYNC102, ASYNC120
                raise
            finally:
                self._turn = None
        if self._is_cancelled:
            raise StopAsyncIteration
        raise trio.ClosedResourceError("this stream has been closed")

    def _take(self, reading: Reading) -> Event:
        try:
            event = reading.take()
        except Gap as gap:
            self.seq = gap.last
            raise
        self.seq = event.seq
        return event

    async def _advance(self) -> None:
        """Make the next step; where it fails, wait before there is another."""
        reading, connection = self._reading, self._connection
        try:
            if reading is None:
                await self._begin()
            elif reading.doubt is not None:
                await self._settle(reading)
            elif connection is None:
                await self._come_back(reading)
            else:
                await self._read(reading, connection)
        except AttemptFailed as error:
            failure = error
        else:
            return
        await self._hang_up()
        if self._backoff.count():
            attempts = self._backoff.attempts
            self._backoff = Backoff(self._max_attempts)
            raise StreamBroken(attempts, self.generation_id, self.seq) from failure
        await self._backoff.wait(failure)

    async def _begin(self) -> None:
        """Ask for the generation, or find out what is spoken in one that exists."""
        if self._asking is None:
            assert self.generation_id is not None
            dialect = dialect_of((await self._calls.describe(self.generation_id)).path)
            self._reading = self._reading_of(self.generation_id, dialect)
            return
        self._has_asked = True
        self._connection = connection = await self._calls.ask(self._asking)
        self.generation_id = _id_of(connection)
        reading = self._reading_of(self.generation_id, dialect_of(self._asking.path))
        if reading.can_count(joined=connection.headers.get("x-cache") == "join"):
            reading.begin(connection.headers.get("content-type", ""))
        else:
            await self._hang_up()
        self._reading = reading

    def _reading_of(self, generation_id: str, dialect: Dialect) -> Reading:
        return Reading(generation_id, dialect, after=self.seq, live=self._is_live)

    async def _come_back(self, reading: Reading) -> None:
        self._connection = connection = await self._calls.events(
            reading.generation_id, reading.received, live=reading.is_live
        )
        if connection.status == 204:
            reading.feed(b"")  # the end of an answer that has nothing to say
        else:
            reading.begin(connection.headers.get("content-type", ""))

    async def _read(self, reading: Reading, connection: Connection) -> None:
        if reading.feed(await connection.read()):
            self._backoff.reset()
        if reading.has_ended:
            await self._hang_up()

    async def _settle(self, reading: Reading) -> None:
        await self._hang_up()
        try:
            reading.settle(await self._calls.describe(reading.generation_id))
        except GenerationGone as gone:
            reading.be_gone(gone)

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()

    # -- leaving -----------------------------------------------------------------------------------

    async def __aenter__(self) -> GenerationStream:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection, its socket at once, waiting for nobody. Idempotent.

        The generation lingers for as long as was asked for, in case its reader comes back;
        :meth:`cancel` is how to stop it. If cancelled, the connection is closed all the same.
        """
        self._is_closed = True
        if self._turn is None:
            await self._hang_up()
            return
        # The task that iterates hangs up.
        self._turn.cancel(reason="the stream was closed")
        if self._connection is not None:
            self._connection.close()

    async def cancel(self) -> None:
        """Stop the generation, for everyone who reads it; for who iterates it here it is over.
        Idempotent. One that has ended is left as it is.

        Where it was asked for and no answer has begun, nobody knows whether it was started: then it
        is asked for once more, by the same key, to learn the id by which it can be stopped. (In
        mode ``private`` it cannot be found so; it ends when its linger does.)

        Raises :class:`ProxyUnreachable`, :class:`Refused` or :class:`UnexpectedAnswer`. If
        cancelled, the connection is closed, and nobody knows whether the generation was stopped:
        call it again.
        """
        self._is_cancelled = True
        await self.aclose()
        if self._is_stopped or (self._reading is not None and self._reading.has_ended):
            return
        if self.generation_id is None and self._asking is not None and self._has_asked:
            self.generation_id = await self._find(self._asking)
        if self.generation_id is not None:
            await self._stop(self.generation_id)
        self._is_stopped = True

    async def _find(self, asking: Asking) -> str | None:
        if asking.mode == "private":
            return None
        try:
            connection = await repeat(partial(self._calls.ask, asking), Backoff(self._max_attempts))
        except Refused:
            return None  # so nothing runs
        try:
            return _id_of(connection)
        finally:
            await connection.aclose()  # noqa: ASYNC102 - closes first, and waits for nothing

    async def _stop(self, generation_id: str) -> None:
        stop = partial(self._calls.read_json, "DELETE", generation_id)
        with suppress(GenerationGone):  # so nothing runs
            await repeat(stop, Backoff(self._max_attempts))


def dialect_of(path: str) -> Dialect:
    """The dialect in which events on ``path`` are told. Raises :exc:`ValueError`."""
    dialect = dialect_for(path.partition("?")[0])
    if dialect is None:
        raise ValueError(f"no generation can be asked for on {path!r}")
    return dialect


def _id_of(connection: Connection) -> str:
    generation_id = connection.headers.get("x-generation-id")
    if generation_id is None:
        raise UnexpectedAnswer("the answer names no generation: is this a trioproxy?")
    return generation_id
