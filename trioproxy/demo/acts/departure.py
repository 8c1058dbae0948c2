"""The last reader to leave ends the engine's call, and nothing of it is left."""

import time
from typing import NamedTuple

import trio
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from trioproxy.demo.drawing import AHEAD, LIVE, Prose
from trioproxy.demo.figures import Figure, milliseconds
from trioproxy.demo.rig import POLL_SECONDS, Census, Rig, completion
from trioproxy.demo.stage import Stage
from trioproxy.simulator import Stats

READERS = 20
LEAVE_AT = 20
LEAVE_EVERY = 0.04
"""Seconds between one departure and the next."""
PATIENCE = 2.0
"""Seconds in which the engine has to see the close, and everything has to be gone."""
REQUEST = completion("Tell me about the sea.", tokens=100_000, seed=230)


class Departure(NamedTuple):
    """The engine's counts with one reader left and with none, and the wall clock in nanoseconds
    when that one left."""

    before: Stats
    closed_at_ns: int
    after: Stats


async def play_departure(rig: Rig, stage: Stage) -> list[Figure]:
    """Play it; return its figures. If cancelled, the readers have left."""
    readers = [rig.reader(REQUEST) for _ in range(READERS)]
    during = now = Census()

    def picture() -> RenderableType:
        lamps = Text()
        for reader in readers:
            lamps.append(*("● ", LIVE) if reader.last and not reader.ended else ("○ ", AHEAD))
        return Group(
            lamps, "", Prose(readers[-1].text, lines=2), "", _table(rig.baseline, during, now)
        )

    with stage.showing(picture):
        async with trio.open_nursery() as nursery:
            stage.waits_for = f"event {LEAVE_AT} at every reader"
            for reader in readers:
                nursery.start_soon(reader.read)
            for reader in readers:
                await reader.wait_for(LEAVE_AT)
            during = now = await rig.census()
            stage.waits_for = "the last reader to leave"
            *crowd, last = readers
            for reader in crowd:
                reader.leave()
                await trio.sleep(LEAVE_EVERY)
                now = await rig.census()
            before = await rig.stats()
            closed_at_ns = time.time_ns()
            last.leave()
        stage.waits_for = "the engine to end its call"
        with trio.move_on_after(PATIENCE):
            await rig.engine.wait_until(lambda stats: stats.active == 0)
        departure = Departure(before, closed_at_ns, await rig.stats())
        stage.waits_for = "the last task of it to end"
        patience_ends_at = trio.current_time() + PATIENCE
        now = await rig.census()
        while now != rig.baseline and trio.current_time() < patience_ends_at:
            await trio.sleep(POLL_SECONDS)
            now = await rig.census()
    return judge(departure, rig.baseline, now)


def judge(departure: Departure, baseline: Census, now: Census) -> list[Figure]:
    """Hold what followed the last departure against what has to follow it."""
    before, closed_at_ns, after = departure
    seconds = (after.last_abort_unix_ns - closed_at_ns) / 1e9
    if not before.active:
        measured = "it ended before"
    elif after.active or after.aborted == before.aborted:
        measured = f"still running {PATIENCE:g} s later"
    else:
        measured = f"it ended {milliseconds(seconds)} later"
    return [
        Figure(
            "the last to leave ends the call",
            measured,
            f"< {PATIENCE:g} s later",
            before.active == 1
            and after.active == 0
            and after.aborted == before.aborted + 1
            and 0 <= seconds < PATIENCE,
        ),
        Figure(
            "nothing of it is left",
            f"{now.tasks} tasks, {now.fds} fds",
            f"{baseline.tasks} and {baseline.fds}",
            now == baseline,
        ),
    ]


def _table(*censuses: Census) -> Table:
    """What was alive before, while twenty read, and now."""
    table = Table.grid(padding=(0, 3, 0, 0))
    for justify in ("left", "right", "right", "right"):
        table.add_column(justify=justify)
    table.add_row("", "before", "with 20", "now", style="dim")
    for name in Census.__struct_fields__:
        table.add_row(name.replace("_", " "), *(str(getattr(census, name)) for census in censuses))
    return table
