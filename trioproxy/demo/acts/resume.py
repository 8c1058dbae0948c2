"""A reader that is cut off returns with the id of its last event, and continues there."""

from collections.abc import Sequence

import trio
from rich.console import Group, RenderableType
from rich.text import Text

from trioproxy.demo.drawing import GONE, KEPT, LIVE, REPLAYED, Prose, Stretch, Track, legend, score
from trioproxy.demo.figures import Figure, calls_in_words, count_doubled, count_lost
from trioproxy.demo.reader import Reader
from trioproxy.demo.rig import POLL_SECONDS, Progress, Rig, completion
from trioproxy.demo.stage import Stage

TOKENS = 110
CUT_AT = (25, 55, 85)
AWAY_EVENTS = 20
"""So many events pass while the reader is away."""
REQUEST = completion("Write a poem about a river.", tokens=TOKENS, seed=57)
LINGER = {"X-Linger": "30"}
"""Nobody else reads: the generation is to outlive the absence of its only reader."""


async def play_resume(rig: Rig, stage: Stage) -> list[Figure]:
    """Play it; return its figures. If cancelled, the reader has left."""
    pieces: list[Reader] = []  # one for each connection
    progress = Progress()

    def picture() -> RenderableType:
        last = pieces[-1].last
        kept = max(progress.events, last)
        table = score(labels=10, notes=9)
        table.add_row("transcript", Track(TOKENS, Stretch(0, kept, KEPT)), f"event {kept}")
        away = pieces[-1].ended and not pieces[-1].complete
        note = f"[{GONE}]away[/]" if away else f"event {last}"
        table.add_row("reader", Track(TOKENS, *_stretches(pieces)), note)
        words = ("a colour for each connection; it is lost at ", ("|", GONE))
        return Group(table, legend(*words), Prose(_told(pieces), lines=4))

    before = await rig.stats()
    piece = rig.reader(REQUEST, headers=LINGER)
    pieces.append(piece)
    with stage.showing(picture):
        for cut_at in CUT_AT:
            stage.waits_for = f"event {cut_at}"
            await piece.read(to=cut_at)
            piece.leave()
            stage.waits_for = f"{AWAY_EVENTS} events that nobody is there to read"
            progress = await rig.progress(piece.generation_id)
            while progress.state == "running" and progress.events < piece.last + AWAY_EVENTS:
                await trio.sleep(POLL_SECONDS)
                progress = await rig.progress(piece.generation_id)
            piece = rig.reader(REQUEST, headers={**LINGER, "Last-Event-ID": piece.event_id})
            pieces.append(piece)
        stage.waits_for = "the end of the stream"
        await piece.read()
    calls = (await rig.stats()).calls - before.calls
    whole = rig.reader(REQUEST, headers={"Last-Event-ID": f"{piece.generation_id}:0"})
    await whole.read()
    return judge(pieces, whole, calls)


def judge(pieces: Sequence[Reader], whole: Reader, calls: int) -> list[Figure]:
    """What the ``pieces`` of a stream add up to, held against the ``whole`` of it."""
    seqs = [seq for piece in pieces for seq in piece.seqs]
    lost, doubled = count_lost(seqs, whole.last), count_doubled(seqs)
    complete = whole.complete and pieces[-1].complete
    return [
        Figure(
            "a resumed stream loses nothing",
            f"{lost} of {whole.last} lost in {len(pieces) - 1} drops",
            "0 lost",
            complete and lost == 0,
        ),
        Figure(
            "... and repeats nothing",
            f"{doubled} doubled, {calls_in_words(calls)}",
            "0 doubled",
            complete and doubled == 0 and calls == 1,
        ),
    ]


def _stretches(pieces: Sequence[Reader]) -> list[Stretch]:
    return [
        Stretch(piece.events[0].seq - 1, piece.last, _style_of(number))
        for number, piece in enumerate(pieces)
        if piece.events
    ]


def _told(pieces: Sequence[Reader]) -> Text:
    text = Text()
    for number, piece in enumerate(pieces):
        text.append(piece.text if number else piece.text.lstrip(), _style_of(number))
        if piece.ended and not piece.complete:
            text.append(" |", f"bold {GONE}")
    return text


def _style_of(number: int) -> str:
    return (LIVE, REPLAYED)[number % 2]
