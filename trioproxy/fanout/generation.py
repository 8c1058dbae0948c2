"""One upstream call: its scope, its reader, its transcript, its subscribers."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Generator, Hashable, Sequence
from contextlib import contextmanager
from typing import Literal

import trio

from trioproxy.fanout.courier import Courier
from trioproxy.fanout.errors import CursorAhead, SourceFailed, TooManySubscribers
from trioproxy.fanout.event import Arrival, Gap
from trioproxy.fanout.limits import Shares
from trioproxy.fanout.outcome import Outcome, cancelled, failed
from trioproxy.fanout.pump import Pump
from trioproxy.fanout.source import Ended, Source
from trioproxy.fanout.subscriber import OnLag, Subscriber
from trioproxy.fanout.transcript import Transcript
from trioproxy.fanout.watch import WatchFactory

logger = logging.getLogger(__name__)

Mode = Literal["replay", "live", "private"]

ABANDONED = cancelled("abandoned")
"""The outcome of one that nobody was left to read."""

FINISH_SECONDS = 2.0
"""How long the reader may go on to the end of a body whose outcome is decided, so that the
connection can be reused."""


class Generation:
    """One upstream call. Made, joined and ended by the hub; only :meth:`run` and
    :meth:`wait_opened` ever wait.

    ``key`` is what the hub finds it by while it runs, None if it is not shared. ``origin`` is what
    it was started for, and ``head`` what entering the source yielded (None before): the core hands
    both on and looks into neither. ``outcome`` is None while it runs. ``created_at``,
    ``first_event_at`` and ``ended_at`` are wall-clock times in seconds since the epoch (None: not
    yet). ``watch`` is told what happens to it. ``linger`` is the longest that any of its requests
    asked for, in seconds. ``readers`` is how many of its ``subscribers`` count. ``is_replica`` says
    that it copies one that runs elsewhere: to be abandoned here is not the end of that one, and is
    not retained as if it were. Its linger is ``notice`` seconds longer than was asked for.
    """

    def __init__(
        self,
        generation_id: str,
        source: Source,
        transcript: Transcript,
        *,
        mode: Mode,
        linger: float,
        max_subscribers: int,
        shares: Shares,
        courier: Courier,
        watch: WatchFactory,
        on_end: Callable[[Generation], None],
        tenant: str = "",
        origin: object = None,
        max_seconds: float = math.inf,
        is_replica: bool = False,
        notice: float = 0.0,
    ) -> None:
        self.id = generation_id
        self.key: Hashable | None = None
        self.transcript = transcript
        self.mode: Mode = mode
        self.linger = linger
        self.max_subscribers = max_subscribers
        self.tenant = tenant
        self.origin = origin
        self.is_replica = is_replica
        self.notice = notice
        self.subscribers: set[Subscriber] = set()
        self.readers = 0
        self.waiting: set[Subscriber] = set()
        self.outcome: Outcome | None = None
        self.head: object | None = None
        self.created_at = time.time()
        self.first_event_at: float | None = None
        self.ended_at: float | None = None
        self._source = source
        self._shares = shares
        self._on_end = on_end
        self._opened = trio.Event()
        self._ends_at = trio.current_time() + max_seconds
        self._scope = trio.CancelScope(deadline=self._ends_at)
        self._nursery: trio.Nursery | None = None  # while its tasks run
        self.pump = Pump(self, courier)
        self.watch = watch(self)
        self._begin_linger()

    # -- joining and leaving: synchronous, one atomic step each ------------------------------------

    @property
    def can_be_joined(self) -> bool:
        """Whether it runs and is not about to be cancelled.

        A deadline that has passed is seen here even before trio acts on it; then the outcome is
        decided on the spot.
        """
        self._see_expiry()
        return self.outcome is None

    @contextmanager
    def subscribe(
        self,
        *,
        after: int | None,
        mode: Mode,
        linger: float,
        on_lag: OnLag,
        max_lag: int,
        counts: bool = True,
    ) -> Generator[Subscriber]:
        """Join on entry, leave on exit. ``after`` is the last seq already read; None means what
        ``mode`` says. One that does not ``count`` is none of those of which there is a most.

        Raises :class:`TooManySubscribers` or :class:`CursorAhead`, with nothing changed.
        """
        last = self.transcript.last
        cursor = after if after is not None else (last if mode == "live" else 0)
        if not 0 <= cursor <= last:
            raise CursorAhead(f"event {cursor} of {self.id} was asked for, the latest is {last}")
        if counts:
            if self.readers >= self.max_subscribers:
                most = self.max_subscribers
                raise TooManySubscribers(f"{self.id} has {most} subscribers already")
            self._shares.check_subscriber(self.tenant)
        subscriber = Subscriber(self, cursor=cursor, on_lag=on_lag, max_lag=max_lag, counts=counts)
        self.subscribers.add(subscriber)
        if counts:
            self.readers += 1
            self._shares.add_subscriber(self.tenant)
        self.watch.joined(subscriber, resumes=bool(after))
        self.linger = max(self.linger, linger)
        if self.outcome is None:
            self._scope.deadline = self._ends_at
        try:
            yield subscriber
        finally:
            self._leave(subscriber)

    def outlive_subscribers(self, linger: float) -> None:
        """Let it outlive its last subscriber by ``linger`` seconds at least; if nobody reads it
        now, its linger begins anew."""
        self.linger = max(self.linger, linger)
        if self.outcome is None and not self.subscribers:
            self._begin_linger()
        self.watch.outlives()

    def _leave(self, subscriber: Subscriber) -> None:
        self.subscribers.discard(subscriber)
        if subscriber.counts:
            self.readers -= 1
            self._shares.remove_subscriber(self.tenant)
        self.waiting.discard(subscriber)
        self.pump.give_back(subscriber)
        subscriber.bell.close()
        self.watch.left(subscriber)
        if self.subscribers or self.outcome is not None:
            return
        if self.linger + self.notice > 0:
            self._begin_linger()
        else:
            self.cancel("abandoned")

    def _begin_linger(self) -> None:
        linger_ends_at = trio.current_time() + self.linger + self.notice
        self._scope.deadline = min(self._ends_at, linger_ends_at)

    # -- the end: decided once, synchronously ------------------------------------------------------

    def cancel(self, reason: str) -> None:
        """End it for everyone, now: ``outcome`` is set when this returns, and the upstream call is
        on its way out.

        Idempotent: a generation that has its outcome keeps it, and may finish reading its body.
        """
        if self._settle(cancelled(reason)):
            self._scope.cancel(reason=reason)

    def _settle(self, outcome: Outcome) -> bool:
        if self.outcome is not None:
            return False
        self.outcome = outcome
        self.ended_at = time.time()
        self.watch.ended()
        self._opened.set()
        # From here on nobody's leaving cancels it, only time does.
        self._scope.deadline = trio.current_time() + FINISH_SECONDS
        self._on_end(self)
        self._ring(trio.current_time())
        return True

    def _see_expiry(self) -> None:
        if self.outcome is None and self._scope.cancel_called:
            self._settle(cancelled(self._expiry()))

    def _expiry(self) -> str:
        now = trio.current_time()
        if now >= self._ends_at:
            return "deadline"
        return "abandoned" if now >= self._scope.deadline else "shutdown"

    # -- the reader --------------------------------------------------------------------------------

    async def wait_opened(self) -> None:
        """Wait until the source's head has come or the generation has ended, whichever is first."""
        await self._opened.wait()

    async def run(self) -> None:
        """Make the upstream call and read it to its end. The body of the generation's task, in the
        hub's nursery.

        Whatever cancels it, the source has been left and the outcome stands when it returns.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    nursery.start_soon(self._read, name=f"reader of {self.id}")
        except* Exception as errors:  # a source with a nursery can raise these beside Cancelled
            self.fail(errors)
        finally:
            self._settle(cancelled(self._expiry()))
            self.watch.closed()

    @property
    def has_begun(self) -> bool:
        """Whether its tasks have been started."""
        return self._nursery is not None

    def start_soon(self, task: Callable[[], Awaitable[None]], *, name: str) -> None:
        """Start a task that ends with this generation, which has begun and not ended."""
        assert self._nursery is not None
        self._nursery.start_soon(task, name=name)

    async def _read(self) -> None:
        try:
            async with self._source as feed:
                self.head = feed.head
                self._opened.set()
                self.watch.opened()
                try:
                    async for arrivals in feed:
                        self._append(arrivals)
                    self._settle(failed("truncated"))
                except Ended as told:
                    self._settle(told.outcome)
                except Exception as error:
                    self.fail(error)
                finally:  # told before the source is left, which may take a moment
                    self._see_expiry()
        except Ended as told:  # before there was anything to be read
            self._settle(told.outcome)
        except Exception as error:
            self.fail(error)

    def _append(self, arrivals: Sequence[Arrival] | Gap) -> None:
        if self.outcome is not None:
            return  # the outcome was the last thing to be said; the rest of the body is only read
        if isinstance(arrivals, Gap):
            self.transcript.pass_over(arrivals)
            self._ring(trio.current_time())
            return
        if self.first_event_at is None and arrivals:
            self.first_event_at = time.time()
        decided, now = None, trio.current_time()
        try:
            for name, data, decided in arrivals:
                self.transcript.append(name, data)
                if decided is not None:
                    break
        finally:  # where the transcript is full, what came before is read as any event
            self.watch.arrived(now)
        if decided is None:
            self._ring(now)
        else:
            self._settle(decided)

    def fail(self, error: Exception) -> None:
        """End it as failed, for what its source told or for a crash, which is logged."""
        if isinstance(error, SourceFailed):
            self._settle(failed(error.reason, _without_frames(error)))
            return
        logger.error("generation %s crashed", self.id, exc_info=error)
        self._settle(failed("internal"))

    def _ring(self, now: float) -> None:
        if self.waiting:
            waiting, self.waiting = self.waiting, set()
            for subscriber in waiting:
                subscriber.bell.ring()
        if self.pump.sinks:
            self.pump.tell_news(now)


def _without_frames(error: SourceFailed) -> SourceFailed:
    """The error itself, without what it was raised through: those frames hold the whole request,
    and would be retained with the outcome, uncounted."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
