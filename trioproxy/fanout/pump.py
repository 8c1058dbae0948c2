"""The sinks that caught-up subscribers lend, and the task that writes to them.

A subscriber that has read everything waits for news, and being woken, taking a batch and writing it
is most of what a token costs. So a subscriber that can be written to without waiting lends its
generation a :class:`Sink` for as long as it keeps up: one function call for each delivery, no task
switch. It gets the same bytes in the same order as if it had read by itself, since a sink is
written to from the subscriber's own cursor, looked at in the step that writes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import trio

from trioproxy.fanout.courier import Courier
from trioproxy.fanout.doorbell import Doorbell
from trioproxy.fanout.event import Batch, Renderer

if TYPE_CHECKING:
    from trioproxy.fanout.generation import Generation
    from trioproxy.fanout.subscriber import Subscriber

WRITES_AT_ONCE = 256
"""So many writes before the other tasks get their turn."""

FEW = 4
"""So many sinks are left to the hub's courier, which saves a task switch for each read."""


class Sink(Protocol):
    """A non-blocking write to one client.

    ``render`` frames an event and ``wrap`` makes what is written at once out of frames; both are
    compared by identity, so that sinks of one format share the bytes. ``heartbeat`` is written,
    wrapped already, after ``interval`` seconds in which nothing was: the same for all sinks of a
    generation.
    """

    render: Renderer
    wrap: Callable[[bytes], bytes]
    heartbeat: bytes
    interval: float

    def write_nowait(self, data: bytes) -> int:
        """Take bytes now, and return how many were taken. Fewer than all means that the sink will
        take no more until its owner has seen to it; of a part that was taken the rest is the
        sink's own affair, and the whole counts as written."""
        ...


class Pump:
    """Writes what is new to the sinks that are lent, from each one's own cursor. If that crashes,
    its generation fails.

    A refusal takes the sink back in the same step: its subscriber is woken, and reads on by itself.
    """

    def __init__(self, generation: Generation, courier: Courier) -> None:
        self.sinks: dict[Subscriber, Sink] = {}
        self._generation = generation
        self._courier = courier
        self._bell: Doorbell | None = None  # while its task runs
        self._interval = 0.0
        self._written_at = trio.current_time()
        self._news_since: float | None = None

    def take(self, subscriber: Subscriber, sink: Sink) -> None:
        """Write to this sink from now on. The task for it is the generation's, and runs while any
        sink is lent."""
        self.sinks[subscriber] = sink
        self._generation.watch.lent(subscriber)
        self._interval = sink.interval
        if self._bell is None:
            self._bell = Doorbell()
            self._generation.start_soon(self._run, name=f"pump of {self._generation.id}")

    def give_back(self, subscriber: Subscriber) -> None:
        """Write to it no more."""
        if self.sinks.pop(subscriber, None) is None:
            return
        self._generation.watch.returned(subscriber)
        if not self.sinks:
            self._ring()  # so that the task ends

    def tell_news(self, now: float) -> None:
        """Have what is new written; it is now, by trio's clock, that it came."""
        if self._news_since is None:
            self._news_since = now
        if len(self.sinks) <= FEW:
            self._courier.send(self)
        else:
            self._ring()

    def deliver(self) -> None:
        """Write what is new, here and now, to the few sinks that there are."""
        if len(self.sinks) > FEW:  # more were lent since it was sent
            self._ring()
            return
        since, self._news_since = self._news_since, None
        prepared: Prepared = {}
        sinks = list(self.sinks)
        try:
            for subscriber in sinks:
                if subscriber in self.sinks:
                    self._write_news(subscriber, prepared)
            self._written_at = trio.current_time()
            if sinks and since is not None:
                self._generation.watch.passed(len(sinks), self._written_at - since)
            self._return_those_at_the_end()
        except Exception as error:
            self._generation.fail(error)
            self._return_all()

    def _ring(self) -> None:
        if self._bell is not None:
            self._bell.ring()

    async def _run(self) -> None:
        bell = self._bell
        assert bell is not None
        try:
            while self.sinks:
                with trio.move_on_at(self._written_at + self._interval) as silence:
                    await bell.wait()
                if not silence.cancelled_caught:
                    since, self._news_since = self._news_since, None
                    number = await self._pass(self._write_news)
                    if since is not None:
                        self._generation.watch.passed(number, trio.current_time() - since)
                    self._return_those_at_the_end()
                elif trio.current_time() >= self._written_at + self._interval:
                    self._generation.watch.beat(await self._pass(self._write_heartbeat))
        except Exception as error:
            self._generation.fail(error)
        finally:
            self._bell = None
            bell.close()
            self._return_all()

    async def _pass(self, write: Callable[[Subscriber, Prepared], None]) -> int:
        """How many it wrote to."""
        self._written_at = trio.current_time()
        prepared: Prepared = {}
        sinks = list(self.sinks)
        for count, subscriber in enumerate(sinks, start=1):
            if subscriber in self.sinks:
                write(subscriber, prepared)
            if count % WRITES_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        return len(sinks)

    def _write_news(self, subscriber: Subscriber, prepared: Prepared) -> None:
        sink = self.sinks[subscriber]
        transcript = self._generation.transcript
        while subscriber.cursor < transcript.last:
            key = (subscriber.cursor, sink.render, sink.wrap)
            if (ready := prepared.get(key)) is None:
                batch = transcript.read(subscriber.cursor)
                assert batch is not None
                frames = b"" if batch.gap else sink.wrap(batch.render(sink.render))
                ready = prepared[key] = (batch, frames)
            batch, data = ready
            taken = sink.write_nowait(data) if data else 0
            if taken:
                subscriber.advance(batch)
            if taken < len(data) or not data:  # a gap is for the subscriber to tell
                self._return(subscriber)
                return

    def _write_heartbeat(self, subscriber: Subscriber, prepared: Prepared) -> None:
        heartbeat = self.sinks[subscriber].heartbeat
        if self.sinks[subscriber].write_nowait(heartbeat) < len(heartbeat):
            self._return(subscriber)

    def _return(self, subscriber: Subscriber) -> None:
        self.give_back(subscriber)
        subscriber.bell.ring()

    def _return_those_at_the_end(self) -> None:
        """Who has been written the last event has only the outcome to tell, which is its own
        affair. (Who has not gets it in the next pass.)"""
        generation = self._generation
        if generation.outcome is not None:
            for subscriber in list(self.sinks):
                if subscriber.cursor == generation.transcript.last:
                    self._return(subscriber)

    def _return_all(self) -> None:
        for subscriber in list(self.sinks):
            self._return(subscriber)


Prepared = dict[tuple[int, Renderer, Callable[[bytes], bytes]], tuple[Batch, bytes]]
"""What one pass writes to whoever is at a cursor, by cursor and format."""
