"""The acts, in the order in which they are played."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from trioproxy.demo.acts.crowd import play_crowd
from trioproxy.demo.acts.departure import play_departure
from trioproxy.demo.acts.latecomer import play_latecomer
from trioproxy.demo.acts.modes import play_modes
from trioproxy.demo.acts.resume import play_resume
from trioproxy.demo.acts.stuck import play_stuck
from trioproxy.demo.figures import Figure
from trioproxy.demo.rig import Rig
from trioproxy.demo.stage import Stage


class Act(NamedTuple):
    """A title, one sentence of what is about to happen, and how it is played."""

    title: str
    sentence: str
    play: Callable[[Rig, Stage], Awaitable[list[Figure]]]


ACTS: Sequence[Act] = (
    Act(
        "Fifty readers, one call",
        "Fifty clients ask the same question at once. The engine is to hear it once.",
        play_crowd,
    ),
    Act(
        "The latecomer",
        "One more reader asks when half of the answer is out. It is to get all of it.",
        play_latecomer,
    ),
    Act(
        "The stuck reader",
        "One of thirteen stops reading, like a phone in a tunnel. It is to harm nobody.",
        play_stuck,
    ),
    Act(
        "Cut off, and back again",
        "A reader is cut off three times, and returns with the id of its last event.",
        play_resume,
    ),
    Act(
        "Three ways to share",
        "In each mode three readers come one by one. What do the late ones get?",
        play_modes,
    ),
    Act(
        "Everybody leaves",
        "Twenty readers hang up in the middle. The last of them is to end the call.",
        play_departure,
    ),
)
