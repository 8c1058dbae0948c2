"""Whether a client that stayed was sent what the engine sent: nothing lost, doubled or moved.

An event is known by its id, where the target gives ids, and by its text: what the engine must have
sent is a function of the prompt. The texts alone repeat, so without ids the sequences are aligned,
and the counts are those of the alignment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

from benchmarks.answers import DONE, Event
from trioproxy.simulator import generate_text

NANOSECONDS = 1e9


@dataclass(frozen=True)
class Deviation:
    """How a sequence of events differs from the one expected.

    Attributes:
        lost: expected, and never came.
        doubled: came once more than expected.
        reordered: expected, and came at another place.
        foreign: came, and is not among those expected: another text, an error event.
    """

    lost: int = 0
    doubled: int = 0
    reordered: int = 0
    foreign: int = 0

    def __bool__(self) -> bool:
        return self != Deviation()

    def __add__(self, other: Deviation) -> Deviation:
        return Deviation(
            self.lost + other.lost,
            self.doubled + other.doubled,
            self.reordered + other.reordered,
            self.foreign + other.foreign,
        )


def verify(events: Sequence[Event], prompt: str, tokens: int) -> Deviation:
    """Hold a whole answer, however many connections it came on, against the engine's text."""
    # The engine tells the role first and the reason of the end last, both without text.
    texts = ["", *generate_text(prompt, tokens), "", DONE]
    if any(event.id is not None for event in events):
        return compare(list(enumerate(texts, 1)), [(event.seq, event.text) for event in events])
    # A proxy that frames the answer anew may add or leave out events that say nothing.
    return compare([text for text in texts if text], [event.text for event in events if event.text])


def compare(expected: Sequence[Hashable], seen: Sequence[Hashable]) -> Deviation:
    """Align the two sequences and count what is not in its place."""
    if list(expected) == list(seen):
        return Deviation()
    alignment = SequenceMatcher(None, expected, seen, autojunk=False)
    in_place = Counter(
        expected[index]
        for block in alignment.get_matching_blocks()
        for index in range(block.a, block.a + block.size)
    )
    missing, extra = Counter(expected) - in_place, Counter(seen) - in_place
    moved = missing & extra
    foreign = sum(count for item, count in extra.items() if item not in expected)
    return Deviation(
        lost=(missing - moved).total(),
        doubled=(extra - moved).total() - foreign,
        reordered=moved.total(),
        foreign=foreign,
    )


def worst_gap(events: Sequence[Event]) -> float:
    """The longest time between the arrivals of an event and of the next one, in seconds; 0 for
    fewer than two."""
    gaps = (after.at - before.at for before, after in pairwise(events))
    return max(gaps, default=0) / NANOSECONDS
