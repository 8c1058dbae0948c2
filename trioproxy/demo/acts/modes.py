"""The three fan-out modes side by side: what a late reader gets, and what it costs the engine."""

from collections.abc import Mapping, Sequence

import trio
from rich.console import Group, RenderableType
from rich.text import Text

from trioproxy.demo.drawing import LIVE, Stretch, Track, Wall
from trioproxy.demo.figures import Figure, calls_in_words, count_lost
from trioproxy.demo.reader import Reader
from trioproxy.demo.rig import Rig, completion
from trioproxy.demo.stage import Stage
from trioproxy.wire import Message

TOKENS = 90
JOINS_AT = (0, 20, 40)
REQUESTS = {
    "replay": completion("Tell me about the sea.", tokens=TOKENS, seed=30),
    "live": completion("Tell me about the sea.", tokens=TOKENS, seed=41),
    "private": completion("Tell me about the sea.", tokens=TOKENS, seed=58),
}
MEANINGS = {"replay": "all of it", "live": "from now on", "private": "one's own"}


async def play_modes(rig: Rig, stage: Stage) -> list[Figure]:
    """Play it; return its figures. If cancelled, the readers have left."""
    readers = {
        mode: [rig.reader(request, headers={"X-Fanout": mode}) for _ in JOINS_AT]
        for mode, request in REQUESTS.items()
    }

    def picture() -> RenderableType:
        columns = [
            _column(mode, readers[mode], rig.calls_of(request))
            for mode, request in REQUESTS.items()
        ]
        return Wall(columns, columns=len(columns), gap=3)

    with stage.showing(picture):
        async with trio.open_nursery() as nursery:
            for number, seq in enumerate(JOINS_AT):
                stage.waits_for = f"event {seq}"
                for group in readers.values():
                    await group[0].wait_for(seq)
                for group in readers.values():
                    nursery.start_soon(group[number].read)
            stage.waits_for = "the end of all streams"
    return judge(readers, {mode: rig.calls_of(request) for mode, request in REQUESTS.items()})


def judge(readers: Mapping[str, Sequence[Reader]], calls: Mapping[str, int]) -> list[Figure]:
    """Hold what each mode's readers got, and the calls that it took, against the mode's meaning."""
    replay, live, private = (readers[mode] for mode in REQUESTS)
    first, *late = live
    starts = [reader.events[0].seq if reader.events else 0 for reader in late]
    joined = all(
        reader.complete and start > 1 and _messages(reader) == _messages(first)[start - 1 :]
        for reader, start in zip(late, starts, strict=True)
    )
    return [
        Figure(
            "replay: late ones get it all",
            f"{calls_in_words(calls['replay'])}, {_count_whole(replay)} of {len(replay)} whole",
            f"1 call, {len(replay)} of {len(replay)}",
            calls["replay"] == 1
            and _count_whole(replay) == len(replay)
            and all(reader.body == replay[0].body for reader in replay),
        ),
        Figure(
            "live: late ones get what comes",
            f"{calls_in_words(calls['live'])}, from {', '.join(map(str, starts))} on",
            "1 call, midway",
            calls["live"] == 1 and _count_whole([first]) == 1 and joined,
        ),
        Figure(
            "private: to each its own call",
            f"{calls_in_words(calls['private'])}, {_count_whole(private)} of {len(private)} whole",
            f"{len(private)} calls, {len(private)} of {len(private)}",
            calls["private"] == len(private)
            and _count_whole(private) == len(private)
            and len({reader.generation_id for reader in private}) == len(private),
        ),
    ]


def _count_whole(readers: Sequence[Reader]) -> int:
    return sum(reader.complete and count_lost(reader.seqs, reader.last) == 0 for reader in readers)


def _messages(reader: Reader) -> list[tuple[int, Message]]:
    return [(event.seq, event.message) for event in reader.events]


def _column(mode: str, readers: Sequence[Reader], calls: int) -> RenderableType:
    """One mode: how far each of its readers is, and how its text begins."""
    lines: list[RenderableType] = [Text.assemble((mode, "bold"), f"  {MEANINGS[mode]}")]
    for reader in readers:
        start = reader.events[0].seq - 1 if reader.events else 0
        lines += [
            Track(TOKENS, Stretch(start, reader.last, LIVE)),
            Text(("... " if start else "") + reader.text.strip(), no_wrap=True, overflow="crop"),
        ]
    return Group(*lines, Text(calls_in_words(calls), "bold"))
