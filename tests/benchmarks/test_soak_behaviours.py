"""The readers of the soak: each behaviour, against the proxy itself."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from random import Random

import msgspec
import pytest
import trio

from benchmarks.soak import behaviours, questions
from benchmarks.soak.behaviours import BEHAVIOURS
from benchmarks.soak.crowd import Report, visit_for_ever
from benchmarks.soak.questions import draw_endless_question
from benchmarks.soak.reading import Violation
from benchmarks.soak.visitor import Commons, Over, Visitor
from trioproxy.config import Settings
from trioproxy.serving import open_proxy
from trioproxy.simulator import EngineSettings, open_engine


@pytest.fixture
async def commons(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Commons]:
    for name in ("SHORT_STALL", "LONG_STALL", "HESITATION", "AWAY"):
        monkeypatch.setattr(behaviours, f"{name}_SECONDS", 0.2)
    monkeypatch.setattr(
        behaviours, "CREATE_LINGER_SECONDS", 2.0
    )  # half of it is for a busy machine
    monkeypatch.setattr(behaviours, "MAX_EVENTS_TOGETHER", 3)
    monkeypatch.setattr(questions, "MAX_SECONDS", 0.2)
    monkeypatch.setattr(questions, "_RATES", (50.0, 0.0))
    monkeypatch.setattr(questions, "_TTFTS", (0.0, 0.1))
    monkeypatch.setattr(questions, "_LINGERS", (0.0, 0.5))
    monkeypatch.setattr(questions, "_LONG_RATES", (0.0,))
    settings = Settings(bind="127.0.0.1:0", retention=5, write_timeout=5, heartbeat=0.05)
    async with (
        open_engine(settings=EngineSettings()) as engine,
        open_proxy(settings, upstream_url=engine.url) as proxy,
    ):
        host, _, port = proxy.binds[0].removeprefix("http://").partition(":")
        yield Commons((host, int(port)), seed=1, retention=1)
        with trio.fail_after(10):
            await proxy.hub.wait_idle()
            await proxy.server.wait_closed()
            await engine.wait_until(lambda stats: stats.active == 0)


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda behaviour: behaviour.__name__)
async def test_a_behaviour_finds_nothing_wrong_with_the_proxy(
    behaviour: Callable[[Visitor], Awaitable[None]], commons: Commons
) -> None:
    async def visit(visitor: Visitor) -> None:
        try:
            await behaviour(visitor)
        except Over:
            return

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(visit, Visitor(commons, Random(number)))

    assert commons.asked > 0


async def test_a_generation_that_ends_as_nobody_asked_for_is_a_violation(
    commons: Commons,
) -> None:
    visitor = Visitor(commons, Random(1))
    question = draw_endless_question(Random(1), "endless")

    async with visitor.ask(question) as stream:
        generation_id = stream.reading.generation_id
        await visitor.call("DELETE", f"/v1/generations/{generation_id}", {})
        with pytest.raises(Violation, match="ended as 'cancelled', expected completed"):
            await stream.read_to_end()


async def test_a_generation_that_somebody_stopped_may_end_so(commons: Commons) -> None:
    visitor = Visitor(commons, Random(1))
    question = draw_endless_question(Random(1), "endless")

    async with visitor.ask(question) as stream:
        generation_id = stream.reading.generation_id
        commons.stopped.add(generation_id)
        await visitor.call("DELETE", f"/v1/generations/{generation_id}", {})
        await stream.read_to_end()

    assert stream.reading.ending == "cancelled"


async def test_a_status_that_was_not_asked_for_is_a_violation(commons: Commons) -> None:
    too_long = replace(draw_endless_question(Random(1), "too long"), tokens=10_000_000)

    with pytest.raises(Violation, match="status 400"):
        async with Visitor(commons, Random(1)).ask(too_long):
            pass


async def test_a_generation_that_is_gone_within_its_retention_is_a_violation(
    commons: Commons,
) -> None:
    visitor = Visitor(commons, Random(1))
    question = draw_endless_question(Random(1), "endless")
    async with visitor.ask(question) as stream:
        await stream.read(2)
    stream.reading.generation_id = "gen_unknown"

    with pytest.raises(Violation, match="status 404 for gen_unknown:"):
        async with visitor.resume(stream, away=0):
            pass


async def test_a_reader_that_a_promise_was_broken_to_reports_it_and_goes_on(
    commons: Commons, monkeypatch: pytest.MonkeyPatch
) -> None:
    visits: list[None] = []
    enough = trio.Event()

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise Violation("event 3 came after event 1")

    async def find_fault(visitor: Visitor) -> None:
        visits.append(None)
        if len(visits) == 4:  # by then three are over
            enough.set()
        async with trio.open_nursery() as nursery:  # noqa: ASYNC112 - it groups what it raises
            nursery.start_soon(fail)

    monkeypatch.setattr("benchmarks.soak.crowd.BEHAVIOURS", {find_fault: 1})
    monkeypatch.setattr("benchmarks.soak.crowd.PAUSE_SECONDS", 0.001)
    report = Report()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(visit_for_ever, Visitor(commons, Random(1)), report)
        with trio.fail_after(5):
            await enough.wait()
        nursery.cancel_scope.cancel()

    assert report.violations == ["find_fault: event 3 came after event 1"] * 3
    assert report == msgspec.json.decode(msgspec.json.encode(report), type=Report)
