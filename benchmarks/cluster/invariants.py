"""What must hold of readers and calls, whatever happened; and what was not held."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.cluster.calls import Call
from benchmarks.cluster.reader import CUT, LEFT, REFUSED
from benchmarks.cluster.trouble import Troubles
from benchmarks.soak.questions import COMPLETED

AT_ONCE_SECONDS = 0.5
"""Within which a call ends that nobody reads, where nothing is wrong."""

BUSY_SECONDS = 0.5
"""How far a promise about time is not held against a busy machine."""

ALWAYS_RIGHT = {COMPLETED, LEFT, CUT}
RIGHT_IN_TROUBLE = {"owner_lost", "broker_lost", REFUSED}


@dataclass(frozen=True, slots=True)
class Visit:
    """What one reader asked for, from when to when, and how it ended."""

    prompt: str
    begun_at: float
    ended_at: float
    ending: str


def wrong_endings(visits: Iterable[Visit], troubles: Troubles) -> Iterator[str]:
    """Who was told of a failure while there was no trouble, or of one that trouble does not
    make."""
    for visit in visits:
        if visit.ending in ALWAYS_RIGHT:
            continue
        if visit.ending not in RIGHT_IN_TROUBLE:
            yield f"{visit.prompt}: ended as {visit.ending!r}"
        elif not troubles.touch(visit.begun_at, visit.ended_at):
            yield f"{visit.prompt}: ended as {visit.ending!r} without trouble"


def doubled_calls(calls: Iterable[Call], troubles: Troubles) -> Iterator[str]:
    """Calls for one prompt beside each other, with no trouble since the earlier one began."""
    for prompt, own in _by_prompt(calls).items():
        for earlier, later in pairwise(sorted(own, key=lambda call: call.began_at)):
            ended_at = earlier.ended_at or later.began_at + 2 * BUSY_SECONDS
            beside = ended_at - later.began_at
            if beside > BUSY_SECONDS and not troubles.touch(earlier.began_at, later.began_at):
                yield f"{prompt}: two calls, for {beside:.2f} s beside each other"


def unread_calls(
    calls: Iterable[Call], visits: Iterable[Visit], troubles: Troubles, *, judged: float, now: float
) -> Iterator[str]:
    """Calls that went on for too long while nobody read them. ``judged`` is within how many seconds
    a node is seen to be gone."""
    visits_of = defaultdict[str, list[Visit]](list)
    for visit in visits:
        visits_of[visit.prompt].append(visit)
    for call in calls:
        end = call.ended_at if call.ended_at is not None else now
        for begin, until in _unread(call.began_at, end, visits_of[call.prompt]):
            trouble = troubles.overlap(begin, until)
            allowed = (trouble + judged if trouble else AT_ONCE_SECONDS) + BUSY_SECONDS
            if until - begin > allowed:
                yield f"{call.prompt}: a call that nobody read for {until - begin:.2f} s"


def _unread(begin: float, end: float, visits: Sequence[Visit]) -> Iterator[tuple[float, float]]:
    """The times between the two in which there was no visit."""
    for visit in sorted(visits, key=lambda visit: visit.begun_at):
        if visit.begun_at >= end:
            break
        if visit.begun_at > begin:
            yield begin, visit.begun_at
        begin = max(begin, visit.ended_at)
    if begin < end:
        yield begin, end


def _by_prompt(calls: Iterable[Call]) -> dict[str, list[Call]]:
    found = defaultdict[str, list[Call]](list)
    for call in calls:
        found[call.prompt].append(call)
    return found
