"""The demonstration: it tells the truth, it ends, and it leaves the terminal as it was."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing
from rich.cells import cell_len
from rich.console import Console
from trio.testing import MockClock

from trioproxy.demo import perform
from trioproxy.demo.acts import ACTS, Act, crowd, departure, latecomer, modes, resume
from trioproxy.demo.acts.departure import Departure
from trioproxy.demo.drawing import Prose, Stretch, Track, spark
from trioproxy.demo.figures import (
    Figure,
    count_alike,
    count_doubled,
    count_lost,
    gaps_between,
    milliseconds,
    percentile,
)
from trioproxy.demo.reader import Reader, Received, UnexpectedAnswer
from trioproxy.demo.rig import Census, Rig, completion, open_rig
from trioproxy.demo.stage import Stage
from trioproxy.simulator import EngineSettings, Stats, generate_text, open_engine
from trioproxy.wire import Message

COMMAND = [sys.executable, "-W", "error", "-m", "trioproxy", "demo"]

HELD = Figure("it holds", "1", "1", True)
BROKEN = Figure("it breaks", "2", "1", False)
GENERATION = "gen_0"


def plain_console() -> Console:
    return Console(file=io.StringIO(), width=80)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def act_of(play: Callable[[Rig, Stage], Awaitable[list[Figure]]]) -> Act:
    return Act("The act", "It is played.", play)


def act_with(*figures: Figure) -> Act:
    async def play(rig: Rig, stage: Stage) -> list[Figure]:
        return list(figures)

    return act_of(play)


def has_read(*seqs: int, complete: bool = True, generation: str = "gen_0") -> Reader:
    """A reader that has received these events and reads no more."""
    reader = Reader("http://127.0.0.1:1", b"")
    for seq in seqs:
        frame = f"id: {generation}:{seq}\ndata: {seq}\n\n"
        reader.receive(frame.encode(), at=float(seq))
    reader.complete, reader.ended = complete, True
    return reader


async def run_on_terminal(
    end: int, environ: dict[str, str], task_status: trio.TaskStatus[trio.Process]
) -> None:
    """Run the demonstration with file descriptor ``end`` as its terminal, which is closed."""
    command = partial(trio.run_process, COMMAND, env=environ, check=False)
    async with trio.open_nursery() as nursery:
        process = await nursery.start(partial(command, stdin=end, stdout=end, stderr=end))
        os.close(end)
        task_status.started(process)


async def read_some(terminal: int) -> bytes:
    await trio.lowlevel.wait_readable(terminal)
    return os.read(terminal, 65536)


@asynccontextmanager
async def serving(answer: bytes) -> AsyncGenerator[str]:
    """The URL of a server that answers every request with these bytes and closes."""

    async def answer_once(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        listener, *_ = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, answer_once, [listener])
        yield "http://{}:{}".format(*listener.socket.getsockname())
        nursery.cancel_scope.cancel()


# The whole


def test_runs_without_a_terminal_and_every_law_holds():
    result = subprocess.run(COMMAND, capture_output=True, text=True, timeout=60)

    assert (result.returncode, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    for number, act in enumerate(ACTS, 1):
        assert f"{number} of {len(ACTS)}  {act.title}\n{act.sentence}\n" in result.stdout
    header, *rows = result.stdout.partition("\nlaw ")[2].splitlines()
    assert header.split() == ["measured", "expected"]
    assert sum(row.endswith(" ✓") for row in rows) == 13
    assert "✗" not in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


async def test_ctrl_c_on_a_terminal_ends_it_and_gives_the_cursor_back():
    terminal, end = pty.openpty()
    os.set_blocking(terminal, False)
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    shown = b""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            process = await nursery.start(run_on_terminal, end, environ)
            while b"waiting for" not in shown:
                shown += await read_some(terminal)
            process.send_signal(signal.SIGINT)
            while b"interrupted" not in shown:
                shown += await read_some(terminal)
            code = await process.wait()
    os.close(terminal)

    assert code == 130
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l") >= 0
    assert b"Traceback" not in shown


async def test_a_figure_that_contradicts_its_law_makes_the_exit_code_1():
    console = plain_console()

    code = await perform(console, [act_with(HELD), act_with(HELD, BROKEN)], deadline=60)

    assert code == 1
    assert re.search(r"^it breaks +2 +1 +✗$", printed(console), re.MULTILINE)
    assert "1 of 3 figures contradict their law" in printed(console)


async def test_figures_that_hold_make_the_exit_code_0():
    console = plain_console()

    code = await perform(console, [act_with(HELD), act_with(HELD)], deadline=60)

    assert code == 0
    assert "All 2 laws held" in printed(console)


async def test_past_the_deadline_it_ends_and_says_what_it_waited_for(mock_clock: MockClock):
    mock_clock.rate = 1
    console = plain_console()

    async def play(rig: Rig, stage: Stage) -> list[Figure]:
        stage.waits_for = "a reader that never comes"
        mock_clock.jump(60)
        with trio.fail_after(5):
            await trio.sleep_forever()

    code = await perform(console, [act_of(play)], deadline=60)

    assert code == 1
    assert "Gave up after 60 s, waiting for a reader that never comes." in printed(console)


@pytest.mark.parametrize("error", [UnexpectedAnswer("status 500"), ConnectionRefusedError("no")])
async def test_an_act_that_cannot_go_on_is_told_without_a_traceback(error: Exception):
    console = plain_console()

    async def play(rig: Rig, stage: Stage) -> list[Figure]:
        async with trio.open_nursery():
            raise error

    code = await perform(console, [act_of(play)], deadline=60)

    assert code == 1
    assert f"Could not go on: {error}." in printed(console)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_at_once(signum: signal.Signals):
    console = plain_console()

    async def play(rig: Rig, stage: Stage) -> list[Figure]:
        signal.raise_signal(signum)
        with trio.fail_after(5):
            await trio.sleep_forever()

    code = await perform(console, [act_of(play)], deadline=60)

    assert code == 130
    assert "interrupted" in printed(console)


# The acts, where a law is broken


async def test_fifty_calls_for_fifty_readers_contradict():
    async with open_engine(settings=EngineSettings(rate=500)) as engine:
        without_proxy = Rig(engine, engine.url)

        calls, alike = await crowd.play_crowd(without_proxy, Stage(plain_console()))

    assert (calls.measured, calls.holds) == ("50 calls", False)
    assert (alike.measured.partition(",")[0], alike.holds) == ("1 of 50", False)


@pytest.mark.parametrize(
    ("pieces", "calls", "lost", "doubled"),
    [
        ([has_read(1, 2, complete=False), has_read(3, 4)], 1, True, True),
        ([has_read(1, 2, complete=False), has_read(4)], 1, False, True),
        ([has_read(1, 2, complete=False), has_read(2, 3, 4)], 1, True, False),
        ([has_read(1, 2, complete=False), has_read(3, 4, complete=False)], 1, False, False),
        ([has_read(1, 2, complete=False), has_read(3, 4)], 2, True, False),
    ],
    ids=["dense", "one lost", "one doubled", "cut at the end", "a second call"],
)
def test_resume_holds_only_without_loss_and_repetition(
    pieces: list[Reader], calls: int, lost: bool, doubled: bool
):
    figures = resume.judge(pieces, has_read(1, 2, 3, 4), calls)

    assert [lost, doubled] == [figure.holds for figure in figures]


def test_resume_does_not_hold_against_a_transcript_that_cannot_be_read():
    figures = resume.judge([has_read(1), has_read(2)], has_read(complete=False), calls=1)

    assert [figure.holds for figure in figures] == [False, False]


WHOLE = [has_read(1, 2, 3) for _ in range(3)]
LIVE = [has_read(1, 2, 3), has_read(2, 3), has_read(3)]
PRIVATE = [has_read(1, 2, 3, generation=f"gen_{number}") for number in range(3)]
CALLS = {"replay": 1, "live": 1, "private": 3}


@pytest.mark.parametrize(
    ("readers", "calls", "held"),
    [
        ({}, {}, [True, True, True]),
        ({}, {"replay": 2}, [False, True, True]),
        ({"replay": LIVE}, {}, [False, True, True]),
        ({}, {"live": 2}, [True, False, True]),
        ({"live": WHOLE}, {}, [True, False, True]),
        ({"live": [has_read(1, 2, 3), has_read(2), has_read(3)]}, {}, [True, False, True]),
        ({"live": [has_read(1, 2, 3), has_read(), has_read(3)]}, {}, [True, False, True]),
        ({}, {"private": 1}, [True, True, False]),
        ({"private": WHOLE}, {}, [True, True, False]),
        ({"private": [*PRIVATE[:2], has_read(2, 3)]}, {}, [True, True, False]),
    ],
)
def test_each_mode_holds_only_with_its_calls_and_its_texts(
    readers: dict[str, list[Reader]], calls: dict[str, int], held: list[bool]
):
    proper = {"replay": WHOLE, "live": LIVE, "private": PRIVATE}

    figures = modes.judge(proper | readers, CALLS | calls)

    assert held == [figure.holds for figure in figures]


ONE_LEFT = Stats(calls=1, active=1)
NONE_LEFT = Stats(calls=1, aborted=1, last_abort_unix_ns=1_001_000_000)


@pytest.mark.parametrize(
    ("counts", "measured", "holds"),
    [
        (Departure(ONE_LEFT, 1_000_000_000, NONE_LEFT), "it ended 1.0 ms later", True),
        (Departure(ONE_LEFT, 1_000_000_000, ONE_LEFT), "still running 2 s later", False),
        (Departure(NONE_LEFT, 1_000_000_000, NONE_LEFT), "it ended before", False),
        (Departure(Stats(calls=1), 1_000_000_000, NONE_LEFT), "it ended before", False),
    ],
)
def test_departure_holds_only_when_the_last_one_ended_the_call(
    counts: Departure, measured: str, holds: bool
):
    call, _ = departure.judge(counts, Census(), Census())

    assert (measured, holds) == (call.measured, call.holds)


@pytest.mark.parametrize("field", Census.__struct_fields__)
def test_departure_does_not_hold_where_anything_is_left(field: str):
    counts = Departure(ONE_LEFT, 1_000_000_000, NONE_LEFT)

    _, nothing_left = departure.judge(counts, Census(), Census(**{field: 1}))

    assert not nothing_left.holds


# Reading


@pytest.mark.parametrize(
    ("answer", "seqs", "complete"),
    [
        (b"17\r\nid: gen_0:1\ndata: one\n\n\r\n0\r\n\r\n", [1], True),
        (b"17\r\nid: gen_0:1\ndata: one\n\n\r\n", [1], False),
        (b"17\r\nid: gen_0:1\nda", [], False),
    ],
    ids=["whole", "without the last chunk", "cut in an event"],
)
async def test_reader_tells_a_whole_stream_from_a_cut_one(
    answer: bytes, seqs: list[int], complete: bool
):
    async with serving(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + answer) as url:
        reader = Reader(url, b"{}")

        await reader.read()

    assert (seqs, complete, True) == (reader.seqs, reader.complete, reader.ended)


async def test_reader_refuses_an_error_status():
    async with serving(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n") as url:
        with pytest.raises(UnexpectedAnswer, match="503"):
            await Reader(url, b"{}").read()


@pytest.mark.parametrize("way", ["leave", "cancel"])
async def test_reader_that_goes_is_seen_to_go(way: str):
    async with open_rig() as rig:
        reader = rig.reader(completion("Say it.", tokens=100_000, seed=1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.read)
            await reader.wait_for(3)

            if way == "leave":
                reader.leave()
            else:
                nursery.cancel_scope.cancel()

        with trio.fail_after(5):
            await rig.engine.wait_until(lambda stats: stats.aborted == 1)
    assert (reader.ended, reader.complete) == (True, False)


async def test_reader_that_left_before_it_was_connected_reads_nothing():
    async with open_rig() as rig:
        reader = rig.reader(completion("Say it.", tokens=100_000, seed=1))
        reader.leave()

        with trio.fail_after(5):
            await reader.read()

    assert (reader.seqs, reader.ended) == ([], True)


async def test_waiting_for_an_event_ends_with_the_stream():
    reader = Reader("http://127.0.0.1:1", b"")

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.wait_for, 1)
            await trio.testing.wait_all_tasks_blocked()
            reader.leave()

    assert reader.last == 0


# Figures


@pytest.mark.parametrize(
    ("seqs", "lost", "doubled"),
    [([1, 2, 3], 0, 0), ([1, 3], 1, 0), ([1, 2, 2, 3, 3], 0, 2), ([], 3, 0), ([2, 2, 4], 2, 1)],
)
def test_lost_and_doubled_events_are_counted(seqs: list[int], lost: int, doubled: int):
    assert (lost, doubled) == (count_lost(seqs, 3), count_doubled(seqs))


def test_alike_are_whole_streams_with_the_first_ones_bytes():
    readers = [has_read(1, 2), has_read(1, 2), has_read(1), has_read(1, 2, complete=False)]

    assert count_alike(readers) == 2


def test_gaps_are_those_that_end_within_the_time():
    events = [Received(seq, Message(None, b""), at) for seq, at in enumerate([0.0, 1, 3, 6])]

    assert gaps_between(events) == [1, 2, 3]
    assert gaps_between(events, start=2, end=5) == [2]


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.99, 0), ([5], 0.99, 5), ([3, 1, 2], 0.5, 2), (range(1, 101), 0.99, 99)],
)
def test_percentile_is_the_nearest_rank(values: Sequence[float], share: float, expected: float):
    assert expected == percentile(values, share)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.00142, "1.4 ms"), (0.0234, "23 ms"), (1.5, "1,500 ms")]
)
def test_durations_are_told_in_milliseconds(seconds: float, words: str):
    assert words == milliseconds(seconds)


# Pictures


@pytest.mark.parametrize(
    ("stretches", "expected"),
    [
        ([], "━━━━"),
        ([Stretch(0, 4, "green")], "━━━━"),
        ([Stretch(0, 1, "green")], "╸━━━"),
        ([Stretch(1, 8, "green")], "╺━━━"),
    ],
)
def test_track_grows_by_half_cells(stretches: list[Stretch], expected: str):
    console = Console(file=io.StringIO(), width=4)

    console.print(Track(8, *stretches))

    assert expected + "\n" == printed(console)


@pytest.mark.parametrize("words", [0, 1, 4, 40])
def test_prose_keeps_its_height_and_shows_the_end(words: int):
    console = Console(file=io.StringIO(), width=20)

    console.print(Prose(" ".join(["千里之行", "word"] * words), lines=3))

    lines = printed(console).splitlines()
    assert len(lines) == 3
    assert max(map(cell_len, lines)) <= 20
    assert (words > 0) == ("word" in "".join(lines).rstrip()[-4:])


@pytest.mark.parametrize(
    "request_body",
    [crowd.REQUEST, latecomer.REQUEST, resume.REQUEST, departure.REQUEST, *modes.REQUESTS.values()],
)
def test_shown_text_has_no_joined_emoji_whose_width_terminals_disagree_about(request_body: bytes):
    asked = json.loads(request_body)

    shown = generate_text(asked["prompt"], min(asked["max_tokens"], 200), asked["seed"])

    assert "\u200d" not in "".join(shown)


def test_row_of_gaps_stays_within_its_height():
    assert spark([0.0, 0.01, 0.05, 0.1, 7.0], top=0.1) == "▁▁▅██"
