"""Fifty readers share one call, and each gets the same bytes."""

import trio
from rich.console import Group, RenderableType

from trioproxy.demo.drawing import LIVE, Prose, Stretch, Track, Wall, legend
from trioproxy.demo.figures import Figure, calls_in_words, count_alike
from trioproxy.demo.rig import Rig, completion
from trioproxy.demo.stage import Stage

READERS = 50
TOKENS = 100
REQUEST = completion("Write a poem about a river.", tokens=TOKENS, seed=22)
HEADERS = {"x-sim-ttft": "0.3"}
"""The engine's first token comes late enough for a slow machine to have let everybody in."""


async def play_crowd(rig: Rig, stage: Stage) -> list[Figure]:
    """Play it; return its figures. If cancelled, the readers have left."""
    readers = [rig.reader(REQUEST, headers=HEADERS) for _ in range(READERS)]

    def picture() -> RenderableType:
        tracks = [Track(TOKENS, Stretch(0, reader.last, LIVE)) for reader in readers]
        return Group(
            Wall(tracks, columns=10),
            legend(("fifty readers", LIVE), ", and what the last of them reads:"),
            Prose(readers[-1].text, lines=3),
        )

    before = await rig.stats()
    with stage.showing(picture):
        stage.waits_for = f"the end of {READERS} streams"
        async with trio.open_nursery() as nursery:
            for reader in readers:
                nursery.start_soon(reader.read)
    calls = (await rig.stats()).calls - before.calls
    alike = count_alike(readers)
    size = len(readers[0].body)
    return [
        Figure("fifty readers cost one call", calls_in_words(calls), "1 call", calls == 1),
        Figure(
            "all get the same bytes",
            f"{alike} of {READERS}, {size:,} bytes",
            f"{READERS} of {READERS}",
            alike == READERS,
        ),
    ]
