"""When tokens are sent: on an absolute schedule, in virtual time."""

import json
import math
import sys
from collections.abc import Mapping

import pytest
import trio
from trio.testing import MockClock

from tests.support.sse import SseReader
from trioproxy.simulator.apis import APIS
from trioproxy.simulator.engine import EngineSettings, Outcome
from trioproxy.simulator.generation import Generation
from trioproxy.simulator.pace import Pace
from trioproxy.simulator.request import parse_generation
from trioproxy.simulator.ticker import Ticker

COMPLETIONS = "/v1/completions"
OLLAMA_GENERATE = "/api/generate"


class RecordingConnection:
    """Notes what is written and when; a write may be made to take its time."""

    def __init__(self, write_seconds: float = 0) -> None:
        self.writes: list[tuple[float, bytes]] = []
        self.write_seconds = write_seconds

    async def respond(
        self, status: int, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        self.writes.append((trio.current_time(), b"%d " % status + body))

    async def start(self, headers: Mapping[str, str]) -> None:
        self.writes.append((trio.current_time(), b""))

    async def write(self, data: bytes) -> None:
        self.writes.append((trio.current_time(), data))
        if self.write_seconds:
            await trio.sleep(self.write_seconds)

    async def finish(self, data: bytes = b"") -> None:
        self.writes.append((trio.current_time(), data))

    @property
    def tokens(self) -> list[tuple[float, int]]:
        """When tokens were written, and how many at once."""
        counted = [(at, _count_tokens(data)) for at, data in self.writes]
        return [(at, count) for at, count in counted if count]

    @property
    def comments(self) -> list[float]:
        return [at for at, data in self.writes if data == b":\n\n"]


def _count_tokens(data: bytes) -> int:
    """Count the texts in what was written: of completions, or lines of Ollama's generate."""
    if data.startswith(b"{"):
        return sum(bool(json.loads(line)["response"]) for line in data.splitlines())
    events = [event.data for event in SseReader().feed(data) if event.data != b"[DONE]"]
    choices = [choice for event in events for choice in json.loads(event).get("choices", [])]
    return sum(bool(choice["text"]) for choice in choices)


async def _generate(
    connection: RecordingConnection,
    settings: EngineSettings,
    headers: dict[str, str] | None = None,
    path: str = COMPLETIONS,
) -> Outcome:
    """Run a stream from virtual time 0, with a ticker of its own."""
    api = APIS[path]
    body = b'{"prompt": "Hello", "stream": true}'
    request = parse_generation(api, headers or {}, body, settings)
    ticker = Ticker()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ticker.run)
        generation = Generation(api, request, connection, ticker, settings.keepalive)  # type: ignore[arg-type]
        outcome = await generation.run()
        nursery.cancel_scope.cancel()
    return outcome


async def test_each_token_comes_when_it_is_due(autojump_clock: MockClock) -> None:
    connection = RecordingConnection()

    outcome = await _generate(connection, EngineSettings(rate=4, ttft=2, tokens=5))

    assert outcome == Outcome.COMPLETED
    assert _rounded(connection.tokens) == [(2.0, 1), (2.25, 1), (2.5, 1), (2.75, 1), (3.0, 1)]
    assert connection.writes[0][0] == 0.0, "the head comes at once"


async def test_a_late_stream_sends_all_that_is_due_and_keeps_to_its_schedule(
    autojump_clock: MockClock,
) -> None:
    connection = RecordingConnection(write_seconds=1.1)

    await _generate(connection, EngineSettings(rate=2, ttft=0, tokens=8))

    assert _rounded(connection.tokens) == [(0.0, 1), (1.1, 2), (2.2, 2), (3.3, 2), (4.4, 1)]


async def test_rate_zero_sends_everything_at_once_in_bounded_writes(
    autojump_clock: MockClock,
) -> None:
    connection = RecordingConnection()

    await _generate(connection, EngineSettings(rate=0, ttft=3, tokens=150))

    assert _rounded(connection.tokens) == [(3.0, 64), (3.0, 64), (3.0, 22)]


async def test_rate_zero_lets_other_tasks_run_between_writes(autojump_clock: MockClock) -> None:
    record: list[int] = []
    connection = RecordingConnection()

    async def watch() -> None:
        while True:
            record.append(len(connection.tokens))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await _generate(connection, EngineSettings(rate=0, ttft=0, tokens=640))
        nursery.cancel_scope.cancel()

    assert len(set(record)) > 4, f"the watcher ran only when {set(record)} writes were done"


async def test_silence_is_broken_by_comments(autojump_clock: MockClock) -> None:
    connection = RecordingConnection()

    await _generate(connection, EngineSettings(rate=0.1, ttft=7, tokens=2, keepalive=3))

    assert [round(at, 2) for at in connection.comments] == [3.0, 6.0, 10.0, 13.0, 16.0]
    assert _rounded(connection.tokens) == [(7.0, 1), (17.0, 1)]


async def test_there_are_no_comments_unless_asked_for(autojump_clock: MockClock) -> None:
    connection = RecordingConnection()

    await _generate(connection, EngineSettings(rate=0.001, ttft=1_000, tokens=2))

    assert connection.comments == []


async def test_the_silence_of_lines_of_json_is_not_broken(autojump_clock: MockClock) -> None:
    connection = RecordingConnection()
    settings = EngineSettings(rate=0.1, ttft=7, tokens=2, keepalive=3)

    await _generate(connection, settings, path=OLLAMA_GENERATE)

    assert _rounded(connection.tokens) == [(7.0, 1), (17.0, 1)]
    head, first, second, ending = [data for _, data in connection.writes]
    assert (head, len(first.splitlines()), len(second.splitlines())) == (b"", 1, 1)
    assert json.loads(ending)["done"] is True


@pytest.mark.parametrize("failure", ["mid", "truncate", "cut"])
async def test_a_broken_stream_breaks_when_the_next_token_is_due(
    failure: str, autojump_clock: MockClock
) -> None:
    connection = RecordingConnection()
    settings = EngineSettings(rate=4, ttft=1, tokens=5)

    outcome = await _generate(connection, settings, {"x-sim-fail": failure})

    assert outcome == Outcome.FAILED
    assert _rounded(connection.tokens) == [(1.0, 1), (1.25, 1)]
    assert round(trio.current_time(), 2) == 1.5


async def test_a_stalled_stream_stays_silent_but_for_its_comments(
    autojump_clock: MockClock,
) -> None:
    connection = RecordingConnection()
    settings = EngineSettings(rate=0, ttft=0, tokens=4, keepalive=100)

    with trio.move_on_after(350):
        await _generate(connection, settings, {"x-sim-fail": "stall"})

    assert _rounded(connection.tokens) == [(0.0, 2)]
    assert [round(at, 2) for at in connection.comments] == [100.0, 200.0, 300.0]


def _rounded(tokens: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """Without what the ticker's milliseconds and the clock's start add."""
    return [(round(at, 2), count) for at, count in tokens]


@pytest.mark.parametrize(
    ("now", "due"), [(9.99, 0), (10.0, 1), (10.24, 1), (10.25, 2), (11.0, 5), (110.0, 401)]
)
def test_what_is_due_follows_from_the_clock_alone(now: float, due: int) -> None:
    pace = Pace(first=10.0, rate=4.0)

    assert due == pace.due_by(now)
    assert pace.due_at(due) > now


def test_at_rate_zero_everything_is_due_with_the_first_token() -> None:
    pace = Pace(first=10.0, rate=0)

    assert pace.due_at(1_000_000) == 10.0
    assert pace.due_by(9.9) == 0
    assert sys.maxsize == pace.due_by(10.0)


async def test_sleepers_wake_in_the_order_of_their_times_and_never_early(
    autojump_clock: MockClock,
) -> None:
    times = [0.5, 0.1004, 30.0, 0.1001, 0.0, -1.0]
    woken: list[float] = []

    async def sleep(ticker: Ticker, time: float) -> None:
        await ticker.sleep_until(time)
        assert time <= trio.current_time() <= max(time, 0) + 0.0011
        woken.append(time)

    async with trio.open_nursery() as nursery:
        ticker = Ticker()
        nursery.start_soon(ticker.run)
        async with trio.open_nursery() as sleepers:
            for time in times:
                sleepers.start_soon(sleep, ticker, time)
        nursery.cancel_scope.cancel()

    assert sorted(times[:4]) == sorted(woken[-4:])
    assert woken[-2:] == [0.5, 30.0]


async def test_a_sleeper_that_comes_later_with_an_earlier_time_is_not_kept_waiting(
    autojump_clock: MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        ticker = Ticker()
        nursery.start_soon(ticker.run)
        nursery.start_soon(ticker.sleep_until, 100.0)
        await trio.testing.wait_all_tasks_blocked()

        await ticker.sleep_until(1.0)

        assert round(trio.current_time(), 2) == 1.0
        nursery.cancel_scope.cancel()


async def test_a_cancelled_sleeper_leaves_the_others_asleep(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        ticker = Ticker()
        nursery.start_soon(ticker.run)
        with trio.move_on_after(2):
            await ticker.sleep_until(5.0)

        await ticker.sleep_until(5.0)

        assert round(trio.current_time(), 2) == 5.0
        nursery.cancel_scope.cancel()


async def test_an_infinite_sleep_ends_with_its_cancellation_only(
    autojump_clock: MockClock,
) -> None:
    with trio.move_on_after(1e6) as scope:
        await Ticker().sleep_until(math.inf)

    assert scope.cancelled_caught
