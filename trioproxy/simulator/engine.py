"""The simulated engine as its owner sees it: how it was set, and what it was asked."""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import trio

_RECORDED_CALLS = 10_000
_RECORDED_BODY_BYTES = 64 << 20


@dataclass(frozen=True)
class EngineSettings:
    """How an engine behaves towards a request that does not say otherwise.

    Attributes:
        rate: tokens per second and choice; 0 is as fast as possible.
        tokens: tokens per choice when the request names no `max_tokens`.
        ttft: seconds from the request to the first token.
        keepalive: seconds of silence in a stream of server-sent events after which a comment is
            sent; 0 is never. Lines of JSON have no comments.
        model: the one model it lists, and the name in answers to requests that name none.

    Raises `ValueError` for a number that is negative or not finite, and for fewer tokens than one.
    """

    rate: float = 50.0
    tokens: int = 64
    ttft: float = 0.05
    keepalive: float = 0
    model: str = "simulated"

    def __post_init__(self) -> None:
        for name in ("rate", "ttft", "keepalive"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a finite number, 0 or more, not {value!r}")
        if self.tokens < 1:
            raise ValueError(f"tokens must be 1 or more, not {self.tokens!r}")


class Outcome(StrEnum):
    """How a generation call ended, or that it has not."""

    ACTIVE = "active"
    COMPLETED = "completed"  # the whole answer was written
    ABORTED = "aborted"  # the client left before that
    REFUSED = "refused"  # answered with an error status and no token
    FAILED = "failed"  # broken off half-way, as the request asked
    CANCELLED = "cancelled"  # the engine was closed


@dataclass(slots=True)
class Stats:
    """Counts of generation calls; what `GET /stats` answers.

    `calls` is every one that came, `active` those that run now. Refused, failed and cancelled calls
    are neither `completed` nor `aborted`. `last_abort_unix_ns` is the wall clock in nanoseconds
    when the last client that left was seen to have left; 0 when none has.
    """

    calls: int = 0
    active: int = 0
    completed: int = 0
    aborted: int = 0
    last_abort_unix_ns: int = 0


@dataclass(slots=True, eq=False)
class Call:
    """One generation call as it was received.

    Attributes:
        method, path, query: of the request line; the query without its question mark.
        headers: names in lower case; a repeated header's values are joined by a comma and a space.
        body: the bytes of the body, without its framing.
        started: `trio.current_time()` in seconds when the request had been read.
        ended: the same clock when the outcome was decided; None while it is active.
        outcome: how it ended.
        began_unix_ns, ended_unix_ns: the same two moments by the wall clock, in nanoseconds, to be
            laid beside what other processes noted.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    started: float
    ended: float | None = None
    outcome: Outcome = Outcome.ACTIVE
    began_unix_ns: int = field(default_factory=time.time_ns)
    ended_unix_ns: int | None = None


class SimulatedEngine:
    """A running engine: its address, its counts and the calls that it received.

    Attributes:
        url: `http://host:port`, without a final slash.
        settings: what it was opened with.
        stats: the counts, changed in place.
        calls: the last 10,000 generation calls, oldest first, less those that were forgotten; fewer
            when their bodies pass 64 MiB.
    """

    def __init__(self, url: str, settings: EngineSettings) -> None:
        self.url = url
        self.settings = settings
        self.stats = Stats()
        self.calls: deque[Call] = deque()
        self._recorded_body_bytes = 0
        self._watchers = trio.lowlevel.ParkingLot()

    async def wait_until(self, condition: Callable[[Stats], bool]) -> None:
        """Wait until the counts satisfy the condition: asked now, and after each change of them.

        Not a checkpoint when they do already. If it is cancelled, nothing has happened.
        """
        while not condition(self.stats):
            await self._watchers.park()

    def begin(self, call: Call) -> None:
        """Record a generation call that has come."""
        self.calls.append(call)
        self._recorded_body_bytes += len(call.body)
        while len(self.calls) > _RECORDED_CALLS or self._recorded_body_bytes > _RECORDED_BODY_BYTES:
            self._recorded_body_bytes -= len(self.calls.popleft().body)
        self.stats.calls += 1
        self.stats.active += 1
        self._watchers.unpark_all()

    def end(self, call: Call, outcome: Outcome) -> None:
        """Decide how a call ended. The first decision stands: a later one changes nothing."""
        if call.outcome is not Outcome.ACTIVE:
            return
        call.outcome = outcome
        call.ended = trio.current_time()
        call.ended_unix_ns = time.time_ns()
        self.stats.active -= 1
        if outcome is Outcome.COMPLETED:
            self.stats.completed += 1
        elif outcome is Outcome.ABORTED:
            self.stats.aborted += 1
            self.stats.last_abort_unix_ns = call.ended_unix_ns
        self._watchers.unpark_all()

    def forget_ended(self) -> int:
        """Drop the calls that have ended from the record, and return how many. Counts stay."""
        active = [call for call in self.calls if call.outcome is Outcome.ACTIVE]
        forgotten = len(self.calls) - len(active)
        self.calls.clear()
        self.calls.extend(active)
        self._recorded_body_bytes = sum(len(call.body) for call in active)
        return forgotten
