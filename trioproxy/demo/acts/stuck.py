"""A reader that stops reading costs the others nothing, and is sent away alone."""

import math
from collections.abc import Sequence

import trio
from rich.console import Group, RenderableType
from rich.text import Text

from trioproxy.demo.drawing import GONE, LIVE, Stretch, Track, score, spark
from trioproxy.demo.figures import Figure, gaps_between, milliseconds, percentile
from trioproxy.demo.reader import Reader
from trioproxy.demo.rig import WRITE_TIMEOUT, Rig, completion
from trioproxy.demo.stage import Stage

OTHERS = 12
STOPS_AT = 50
SHOWN_EVENTS = 180
PATIENCE = 15.0
"""Seconds after which the stuck reader is taken for one that the proxy never sends away."""
POLL_SECONDS = 0.05
SLOT_SECONDS = 0.05
SPARK_TOP = 0.1
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
        table = score(labels=6, notes=24)
        for number, reader in enumerate(others[:4], 1):
            table.add_row(
                f"{number}", Track(SHOWN_EVENTS, Stretch(0, reader.last, LIVE)), f"event {reader.last}"
            )
        table.add_row(
            f"[{GONE}]stuck[/]",
            Track(SHOWN_EVENTS, Stretch(0, stuck.last, GONE)),
            _plight(stuck, trio.current_time() - stopped_at, gone_at - stopped_at),
        )
        return Group(table, "", Text.assemble("the twelve: ", _gap_line(others, stopped_at)))

    async with stage.showing(picture), trio.open_nursery() as nursery:
        stage.waits_for = f"event {STOPS_AT}"
        for reader in others:
            nursery.start_soon(reader.read)
        await stuck.read(to=STOPS_AT)
        stopped_at = trio.current_time()
        stage.waits_for = f"the proxy to give up the stuck reader ({WRITE_TIMEOUT:g} s)"
        with trio.move_on_after(PATIENCE):
            await _wait_for_subscribers(rig, others[0].generation_id, OTHERS)
            gone_at = trio.current_time()
        stage.waits_for = "ten more events for everybody else"
        last = others[0].last + 10
        for reader in others:
            await reader.wait_for(last)
        rig.leave_all()
    before = [gap for reader in others for gap in gaps_between(reader.events, end=stopped_at)]
    beside = [gap for reader in others for gap in gaps_between(reader.events, start=stopped_at)]
    unharmed = sum(_events_to(reader, last) == _events_to(others[0], last) for reader in others)
    worst = max(beside, default=math.inf)
    return [
        Figure(
            "a stuck reader slows nobody",
            f"p99 gap {milliseconds(percentile(before, 0.99))} before, "
            f"{milliseconds(percentile(beside, 0.99))} beside it",
            f"no gap of {WRITE_TIMEOUT:g} s",
            worst < WRITE_TIMEOUT,
        ),
        Figure(
            "... it alone is sent away",
            f"after {gone_at - stopped_at:.1f} s; {unharmed} of {OTHERS} read on",
            f"{OTHERS} of {OTHERS}",
            gone_at < math.inf and unharmed == OTHERS,
        ),
    ]


async def _wait_for_subscribers(rig: Rig, generation_id: str, count: int) -> None:
    while (await rig.progress(generation_id)).subscribers > count:
        await trio.sleep(POLL_SECONDS)


def _events_to(reader: Reader, last: int) -> list[tuple[int, bytes]]:
    events = [(event.seq, event.message.data) for event in reader.events if event.seq <= last]
    return events if len(events) == last else []


def _plight(stuck: Reader, stuck_for: float, gone_after: float) -> str:
    if gone_after < math.inf:
        return f"[{GONE}]sent away after {gone_after:.1f} s[/]"
    return f"[{GONE}]reads nothing for {stuck_for:.1f} s[/]" if stuck_for > 0 else f"event {stuck.last}"


def _gap_line(others: Sequence[Reader], stopped_at: float) -> Text:
    raise NotImplementedError
