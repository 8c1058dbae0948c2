"""The ways in which clients leave: each a small record, and a function that the crowd acts out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random

from benchmarks.answers import understand
from benchmarks.readers import READ_BYTES, Reader, StuckReader
from benchmarks.storm.crowd import Client, Crowd

TASTE = 20
"""Events that a client reads before anything happens to it; half of a shorter answer."""
FLAPS = 4
"""How often a client leaves and resumes, unless its answer ends before."""
LINGER_SECONDS = "10"
"""How long a generation waits for clients that will be back, as the header has it."""
PREFILL_SECONDS = "120"
"""How long the engine thinks, as the header has it."""
HEAD_SECONDS = 3.0
"""How long a client waits for the head of an answer whose first token is far."""
PATIENCE_SECONDS = 0.5
"""How long it then waits for that token, before it leaves."""
ABANDONED_STREAM_SECONDS = 90.0
"""The length of an answer that nobody reads to its end: its call is still there when the wait for
its cancellation is over, unless it was cancelled."""
JOINED_STREAM_SECONDS = 15.0
"""The length of an answer that everyone joins while it runs."""
SIP_BYTES = (500, 10_000)
"""A client that leaves in the middle of a frame reads at least, and less than, so many bytes."""


@dataclass(frozen=True)
class Pattern:
    """A way of leaving.

    Attributes:
        name: what it is called on the command line.
        story: what the clients do, in a line.
        act: lets a crowd do it; everybody has left or has come to an end when it returns.
        min_stream_seconds: an answer takes ``--seconds``, or so long where that is longer.
        headers: what the requests have beside the usual.
        needs_resume: only a target that takes a reader up where it left off can be asked for it.
    """

    name: str
    story: str
    act: Callable[[Crowd], None]
    min_stream_seconds: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    needs_resume: bool = False


def _taste(crowd: Crowd) -> None:
    crowd.wait_events(crowd.clients, min(TASTE, crowd.tokens // 2))


def _others(crowd: Crowd, clients: Iterable[Client]) -> list[Client]:
    chosen = set(clients)
    return [client for client in crowd.clients if client not in chosen]


def _all_at_once(crowd: Crowd) -> None:
    crowd.connect(crowd.clients)
    _taste(crowd)
    for client in crowd.clients:
        client.reader.leave()


def _reset(crowd: Crowd) -> None:
    crowd.connect(crowd.clients)
    _taste(crowd)
    for client in crowd.clients:
        client.reader.reset()


def _prefill(crowd: Crowd) -> None:
    crowd.connect(crowd.clients)
    crowd.wait_answered(crowd.clients, HEAD_SECONDS)
    crowd.stay(PATIENCE_SECONDS)
    for client in crowd.clients:
        client.reader.leave()


def _mid_frame(crowd: Crowd) -> None:
    crowd.connect(crowd.clients, partial(SippingReader, crowd.random))
    crowd.wait_done(crowd.clients)


def _poisson(crowd: Crowd) -> None:
    leavers = crowd.random.sample(crowd.clients, len(crowd.clients) // 2)
    stays = draw_stays(crowd.random, len(leavers), mean=crowd.seconds / 4)
    crowd.connect(crowd.clients)
    crowd.wait_events(crowd.clients, 1)
    for client, stay in zip(leavers, stays, strict=True):
        crowd.after(stay, client.reader.leave)
    crowd.wait_done(crowd.clients)


def _flap(crowd: Crowd) -> None:
    crowd.connect(crowd.clients)
    crowd.wait_events(crowd.clients, 1)
    for client in crowd.clients:
        _flap_later(crowd, client, FLAPS)
    crowd.wait_done(crowd.clients)


def _flap_later(crowd: Crowd, client: Client, flaps: int) -> None:
    """Let the client leave and resume, so many times, if its answer does not end before."""

    def leave_and_resume() -> None:
        if not client.reader.is_done:
            client.reader.leave()
            crowd.connect([client])
            _flap_later(crowd, client, flaps - 1)

    if flaps:
        [stay] = draw_stays(crowd.random, 1, mean=crowd.seconds / FLAPS)
        crowd.after(stay, leave_and_resume)


def _reload(crowd: Crowd) -> None:
    crowd.connect(crowd.clients)
    _taste(crowd)
    for client in crowd.clients:
        client.reader.leave()
    crowd.connect(crowd.clients)
    crowd.wait_done(crowd.clients)


def _stuck(crowd: Crowd) -> None:
    stuck = crowd.random.sample(crowd.clients, len(crowd.clients) // 10)
    crowd.connect(stuck, StuckReader)
    crowd.wait_asked(stuck)
    others = _others(crowd, stuck)
    crowd.connect(others)
    crowd.wait_events(others, 1)
    for client in stuck:
        crowd.after(crowd.seconds * 0.8, client.reader.leave)
    crowd.wait_done(crowd.clients)


def _thundering_join(crowd: Crowd) -> None:
    openers = list({client.generation: client for client in crowd.clients}.values())
    crowd.connect(openers)
    crowd.wait_events(openers, crowd.tokens // 4)
    crowd.connect(_others(crowd, openers))
    crowd.wait_done(crowd.clients)


class SippingReader(Reader):
    """Reads a random number of bytes, a few more if that is at a frame's end, and leaves."""

    def __init__(self, random: Random, asking: bytes) -> None:
        super().__init__(asking)
        self._thirst = random.randrange(*SIP_BYTES)

    def read(self, max_bytes: int = READ_BYTES) -> None:
        super().read(min(max_bytes, self._thirst))
        if self.has_ended:
            return
        self._thirst -= len(self.pieces[-1][1])
        if not self._thirst:
            if understand(self.pieces).rest:
                self.leave()
            else:
                self._thirst = 7


def draw_stays(random: Random, count: int, *, mean: float) -> list[float]:
    """How long each of so many clients stays, in seconds: exponentially distributed, so that they
    leave as the events of a Poisson process do."""
    return [random.expovariate(1 / mean) for _ in range(count)]


PATTERNS = {
    pattern.name: pattern
    for pattern in (
        Pattern(
            "all-at-once",
            f"all read {TASTE} events, then all close in one loop",
            _all_at_once,
            min_stream_seconds=ABANDONED_STREAM_SECONDS,
        ),
        Pattern(
            "poisson",
            "half of them leave, each after an exponentially distributed time; the others stay",
            _poisson,
        ),
        Pattern(
            "flap",
            f"each leaves and resumes {FLAPS} times, and reads to the end",
            _flap,
            headers={"X-Linger": LINGER_SECONDS},
            needs_resume=True,
        ),
        Pattern(
            "prefill",
            "the engine thinks; all leave before the first token",
            _prefill,
            min_stream_seconds=ABANDONED_STREAM_SECONDS,
            headers={"x-sim-ttft": PREFILL_SECONDS},
        ),
        Pattern(
            "mid-frame",
            "each reads a random number of bytes and leaves in the middle of a frame",
            _mid_frame,
            min_stream_seconds=ABANDONED_STREAM_SECONDS,
        ),
        Pattern(
            "stuck",
            "a tenth of them never read and later vanish; the others read to the end",
            _stuck,
        ),
        Pattern(
            "reset",
            f"all read {TASTE} events, then all reset their connections (RST)",
            _reset,
            min_stream_seconds=ABANDONED_STREAM_SECONDS,
        ),
        Pattern(
            "reload",
            "all drop at once, come back at once, and read to the end",
            _reload,
            headers={"X-Linger": LINGER_SECONDS},
            needs_resume=True,
        ),
        Pattern(
            "thundering-join",
            "a generation's first client reads a quarter; all others join at once and read it all",
            _thundering_join,
            min_stream_seconds=JOINED_STREAM_SECONDS,
        ),
    )
}
"""All patterns by name."""
