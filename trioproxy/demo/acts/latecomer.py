"""A reader that comes late catches up with the others, and misses nothing."""

import trio
from rich.console import Group, RenderableType

from trioproxy.demo.drawing import LIVE, REPLAYED, Prose, Stretch, Track, legend, score
from trioproxy.demo.figures import Figure, count_alike, milliseconds
from trioproxy.demo.rig import Rig, completion
from trioproxy.demo.stage import Stage

TOKENS = 100
JOINS_AT = 50
REQUEST = completion("Write a poem about a river.", tokens=TOKENS, seed=44)


async def play_latecomer(rig: Rig, stage: Stage) -> list[Figure]:
    """Play it; return its figures. If cancelled, the readers have left."""
    first = rig.reader(REQUEST)
    late = rig.reader(REQUEST, headers={"X-Fanout": "replay"})
    missed = 0  # what was out when the late one asked

    def picture() -> RenderableType:
        table = score(labels=6, notes=9)
        table.add_row("first", Track(TOKENS, Stretch(0, first.last, LIVE)), f"event {first.last}")
        replayed, live = Stretch(0, min(missed, late.last), REPLAYED), Stretch(0, late.last, LIVE)
        table.add_row("late", Track(TOKENS, replayed, live), f"event {late.last}" if missed else "")
        words = (
            "out before the late one asked: ",
            ("replayed at once", REPLAYED),
            ", then ",
            ("live", LIVE),
        )
        return Group(table, legend(*words), Prose(late.text, lines=3))

    with stage.showing(picture):
        async with trio.open_nursery() as nursery:
            stage.waits_for = "half of the answer"
            nursery.start_soon(first.read)
            await first.wait_for(JOINS_AT)
            missed, asked_at = first.last, trio.current_time()
            stage.waits_for = "the end of both streams"
            nursery.start_soon(late.read)
    caught_up = [event.at - asked_at for event in late.events if event.seq >= missed]
    alike = count_alike([first, late])
    return [
        Figure(
            "a latecomer catches up at once",
            f"{missed} events in {milliseconds(caught_up[0])}" if caught_up else "never",
            "< 2 s",
            bool(caught_up) and caught_up[0] < 2,
        ),
        Figure(
            "... with the same bytes",
            f"{len(late.body):,} of {len(first.body):,} bytes",
            "all",
            alike == 2,
        ),
    ]
