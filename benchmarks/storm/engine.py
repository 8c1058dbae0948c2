"""What the engine saw of a storm: its calls, and when they were closed.

A call was *for* the clients that sent its prompt. Where a target shares, that is a generation's
clients; where it does not, every client sends a prompt of its own. A call is *abandoned* at the
moment at which the last of the clients that it was for closed its connection; while one of them
stays to the end, it never is.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.request import Request, urlopen

import msgspec

from benchmarks.processes import Process
from trioproxy.simulator import Outcome, Stats

_T = TypeVar("_T")

NANOSECONDS = 1e9
CLOSE_SECONDS = 10.0
"""How long a call may take to be closed before it counts as one that never is."""
PHOTO_FINISH_SECONDS = 1.0
"""A call that completes so soon after it was abandoned might have done so anyway."""

_POLL_SECONDS = 0.02
_TIMEOUT_SECONDS = 30.0


class Call(msgspec.Struct, frozen=True):
    """A call as ``GET /calls`` of the simulated engine tells of it."""

    prompt: str
    outcome: Outcome
    began_unix_ns: int
    ended_unix_ns: int | None


@dataclass(frozen=True)
class Closing:
    """How the calls of a storm ended.

    Attributes:
        calls: how many there were.
        seconds: for each abandoned call that was closed before its answer was complete, from when
            it was abandoned to when the engine saw the close. Less than 0 for a call that a target
            closed before its clients left.
        never_closed: abandoned calls that were still open after `CLOSE_SECONDS`, or whose answer
            was generated to its end for nobody.
    """

    calls: int
    seconds: tuple[float, ...]
    never_closed: int


def when_abandoned(prompts: Iterable[str], left_at: Iterable[int | None]) -> dict[str, int | None]:
    """For each prompt, when the last of its clients left; None if one of them stayed."""
    moments: dict[str, int | None] = {}
    for prompt, moment in zip(prompts, left_at, strict=True):
        latest = moments.get(prompt, 0)
        moments[prompt] = None if moment is None or latest is None else max(moment, latest)
    return moments


def judge(calls: Sequence[Call], abandoned: Mapping[str, int | None]) -> Closing:
    """Hold the calls against the moments at which they were abandoned, both ``time.time_ns()``."""
    calls = [call for call in calls if call.prompt in abandoned]
    seconds: list[float] = []
    never_closed = 0
    for call in calls:
        moment = abandoned[call.prompt]
        if moment is None:
            continue
        if call.ended_unix_ns is None:
            never_closed += 1
            continue
        after = (call.ended_unix_ns - moment) / NANOSECONDS
        if call.outcome is Outcome.ABORTED:
            seconds.append(after)
        elif call.outcome is Outcome.COMPLETED and after > PHOTO_FINISH_SECONDS:
            never_closed += 1
    return Closing(len(calls), tuple(seconds), never_closed)


def wait_closed(engine: Process) -> list[Call]:
    """Wait until no call is active, for `CLOSE_SECONDS` at most, and return all calls."""
    deadline = time.monotonic() + CLOSE_SECONDS
    while _fetch(engine, "GET", "/stats", Stats).active and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return _fetch(engine, "GET", "/calls", list[Call])


def forget_calls(engine: Process) -> None:
    """Let the engine forget the calls that have ended."""
    _fetch(engine, "DELETE", "/calls", dict[str, int])


def _fetch(engine: Process, method: str, path: str, type_: type[_T]) -> _T:
    with urlopen(Request(engine.url + path, method=method), timeout=_TIMEOUT_SECONDS) as response:
        return msgspec.json.decode(response.read(), type=type_)
