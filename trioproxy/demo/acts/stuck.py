"""A reader that stops reading costs the others nothing, and is sent away alone."""

import math
from collections.abc import Sequence

import trio
from rich.console import Group, RenderableType
from rich.text import Text

from trioproxy.demo.drawing import GONE, LIVE, Stretch, Track, Wall, score, spark
from trioproxy.demo.figures import Figure, gaps_between, milliseconds, percentile
from trioproxy.demo.reader import Reader
from trioproxy.demo.rig import POLL_SECONDS, WRITE_TIMEOUT, Rig, completion
from trioproxy.demo.stage import Stage

OTHERS = 12
STOPS_AT = 50
SHOWN_EVENTS = 160
PATIENCE = 15.0
"""Seconds after which the stuck reader is taken for one that the proxy never sends away."""
SLOT_SECONDS = 0.05
SLOTS = 48
TOP_GAP = 0.1
"""Seconds; the height of the row of gaps."""
REQUEST = completion(
    "Write a poem about a river.",
    tokens=100_000,
    seed=52,
    # It comes back in every event and makes each as heavy as one with log probabilities, so that a
    # socket that nobody reads from is full within moments.
    model="simulated-" + "x" * 4000,
)


async def play_stuck(rig: Rig, stage: Stage) -> list[Figure]:
    """Play it; return its figures. If cancelled, the readers have left."""
    others = [rig.reader(REQUEST) for _ in range(OTHERS)]
    stuck = rig.reader(REQUEST, receive_buffer=1)  # the kernel makes that its smallest
    stopped_at = gone_at = math.inf

    def picture() -> RenderableType:
        tracks = [Track(SHOWN_EVENTS, Stretch(0, reader.last, LIVE)) for reader in others]
        table = score(labels=6, notes=24)
        table.add_row(
            f"[{GONE}]stuck[/]",
            Track(SHOWN_EVENTS, Stretch(0, stuck.last, GONE)),
            _plight(stuck.last, trio.current_time() - stopped_at, gone_at - stopped_at),
        )
        return Group(Wall(tracks, columns=4), table, "", _gap_line(others, stopped_at))

    with stage.showing(picture):
        async with trio.open_nursery() as nursery:
            stage.waits_for = f"event {STOPS_AT}"
            for reader in others:
                nursery.start_soon(reader.read)
            await stuck.read(to=STOPS_AT)
            stopped_at = trio.current_time()
            stage.waits_for = f"the write timeout of {WRITE_TIMEOUT:g} s"
            with trio.move_on_after(PATIENCE):
                await _wait_until_subscribers_are(rig, others[0].generation_id, OTHERS)
                gone_at = trio.current_time()
            stage.waits_for = "ten more events for the twelve"
            last = others[0].last + 10
            for reader in others:
                await reader.wait_for(last)
            rig.leave_all()
    before = [gap for reader in others for gap in gaps_between(reader.events, end=stopped_at)]
    beside = [gap for reader in others for gap in gaps_between(reader.events, start=stopped_at)]
    unharmed = sum(_run_to(last, reader) == _run_to(last, others[0]) != [] for reader in others)
    worst = max(beside, default=math.inf)
    return [
        Figure(
            "a stuck reader slows nobody",
            f"p99 gap {milliseconds(percentile(before, 0.99))}"
            f" → {milliseconds(percentile(beside, 0.99))}",
            f"no gap of {WRITE_TIMEOUT:g} s",
            worst < WRITE_TIMEOUT,
        ),
        Figure(
            "... and is sent away alone",
            f"{_when(gone_at - stopped_at)}; {unharmed} of {OTHERS} go on",
            f"{OTHERS} of {OTHERS}",
            gone_at < math.inf and unharmed == OTHERS,
        ),
    ]


async def _wait_until_subscribers_are(rig: Rig, generation_id: str, count: int) -> None:
    while True:
        progress = await rig.progress(generation_id)
        if progress.subscribers == count:
            return
        await trio.sleep(POLL_SECONDS)


def _run_to(last: int, reader: Reader) -> list[tuple[int, bytes]]:
    """The events 1 to ``last``; none at all where one is missing or out of its turn."""
    run = [(event.seq, event.message.data) for event in reader.events if event.seq <= last]
    return run if [seq for seq, _ in run] == list(range(1, last + 1)) else []


def _when(seconds: float) -> str:
    return f"in {seconds:.1f} s" if seconds < math.inf else "never"


def _plight(last: int, stuck_for: float, gone_after: float) -> str:
    if gone_after < math.inf:
        return f"[{GONE}]sent away after {gone_after:.1f} s[/]"
    if stuck_for > 0:
        return f"[{GONE}]reads nothing for {stuck_for:.1f} s[/]"
    return f"event {last}"


def _gap_line(others: Sequence[Reader], stopped_at: float) -> Text:
    """The longest gap among all readers, for each slot of time, with a mark at ``stopped_at``."""
    start = min((reader.events[0].at for reader in others if reader.events), default=0.0)
    longest = [0.0] * SLOTS
    for reader in others:
        for gap, event in zip(gaps_between(reader.events), reader.events[1:], strict=True):
            slot = min(int((event.at - start) / SLOT_SECONDS), SLOTS - 1)
            longest[slot] = max(longest[slot], gap)
    while longest and not longest[-1]:
        longest.pop()
    split = max(0, math.ceil(min(stopped_at - start, SLOTS) / SLOT_SECONDS))
    line = spark(longest, TOP_GAP)
    return Text.assemble(
        ("longest gap ", "dim"),
        (line[:split], LIVE),
        ("|" if line[split:] else "", GONE),
        (line[split:], LIVE),
        (f" of {milliseconds(TOP_GAP)}", "dim"),
    )
