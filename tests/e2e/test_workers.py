"""Many processes on one socket: any of them serves any generation, and none is missed."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.cluster.servers import run_server
from tests.e2e.commands import Simulator, open_simulator
from tests.e2e.polling import wait_equal
from tests.e2e.streams import (
    COMPLETION,
    DONE,
    REPLAY,
    error_of,
    next_event,
    post,
    read_events,
)
from tests.e2e.test_restart import BRIEF, ENDLESS, Clients
from tests.e2e.workers import DRAIN, PATIENCE, Workers, have_ended, open_workers, watched
from tests.support.rawhttp import RawClient, open_client

CALLS_PER_SECOND = 20

PROMPT = "1000"
"""The longest that may come, as a rule."""

JOINS = 'trioproxy_joins_total{{kind="{}"}}'


@pytest.fixture(scope="module")
def engine() -> Iterator[Simulator]:
    with open_simulator("--ttft", "0", "--rate", "50", "--tokens", "100000") as simulator:
        yield simulator


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of `workers`."""
    file = tmp_path_factory.mktemp("workers") / "proxy.toml"
    write_settings(file, PROMPT)
    return file


def write_settings(file: Path, max_prompt: str) -> None:
    file.write_text(f"[limits]\nmax_prompt = {max_prompt}\n")


@pytest.fixture(scope="module")
def _workers(engine: Simulator, settings: Path) -> Iterator[Workers]:
    with open_workers(engine.url, "--config", str(settings)) as workers:
        yield workers


@pytest.fixture
async def workers(_workers: Workers, engine: Simulator) -> AsyncIterator[Workers]:
    """Two, with a broker of their own. A test must leave two, whichever."""
    yield _workers
    await engine.wait_active(0, within=10)
    await _workers.wait_workers(2)


async def start(client: RawClient, **headers: str) -> str:
    """Begin a stream that others may join; its id, when it runs."""
    while True:
        await post(client, COMPLETION, headers=REPLAY | headers)
        head = await client.response_head()
        if head.status != 503:
            break
        await client.body()  # its twin ran at a worker that was killed by the test before
    assert (head.status, head.headers["x-cache"]) == (200, "miss")
    await next_event(client)
    return head.headers["x-generation-id"]


async def read_to_the_cut(client: RawClient) -> None:
    """Read a stream that is not to end properly."""
    with suppress(trio.BrokenResourceError):
        while await client.next_event() is not None:
            pass
    assert not client.ended_properly


async def test_any_worker_serves_what_another_runs(workers: Workers, engine: Simulator) -> None:
    one, other = workers.pids()
    before = (await engine.stats())["calls"]
    async with (
        workers.client_of(one) as first,
        workers.client_of(other) as twin,
        workers.client_of(other) as reader,
        workers.client_of(other) as stopper,
    ):
        generation_id = await start(first)
        await post(twin, COMPLETION, headers=REPLAY)
        joined = (await twin.response_head()).headers
        await next_event(twin)
        await reader.request("GET", f"/v1/generations/{generation_id}/events")
        assert (await reader.response_head()).status == 200
        await next_event(reader)
        assert (await engine.stats())["calls"] == before + 1

        await stopper.request("DELETE", f"/v1/generations/{generation_id}")
        assert (await stopper.response_head()).status in (200, 202, 204)
        await stopper.body()
        texts = [
            [event.data for event in await read_events(each)][-2:] for each in (first, twin, reader)
        ]

    assert (joined["x-generation-id"], joined["x-cache"]) == (generation_id, "join")
    assert [error_of(error) for error, _ in texts] == ["cancelled"] * 3
    await engine.wait_active(0)


async def test_whichever_is_asked_tells_the_metrics_of_all(workers: Workers) -> None:
    before = await workers.metrics()
    for pid in workers.pids():
        async with workers.client_of(pid) as client:
            await post(client, COMPLETION, headers=BRIEF)
            await client.response_head()
            await client.body()
    told: list[list[str]] = []
    for pid in workers.pids():
        async with workers.client_of(pid) as client:
            await client.request("GET", "/metrics")
            await client.response_head()
            told.append((await client.body()).decode().splitlines())
    after = await workers.metrics()

    joins = JOINS.format("first")
    assert after[joins] - before.get(joins, 0) == 2
    assert after["trioproxy_workers"] == 2
    for lines in told:
        assert f"{joins} {after[joins]}" in lines
        assert len(lines) == len(set(lines))


async def test_one_that_is_killed_is_replaced_and_the_streams_of_the_other_run_on(
    workers: Workers, engine: Simulator
) -> None:
    one, other = workers.pids()
    counted = (await workers.metrics())["trioproxy_worker_restarts_total"]
    async with workers.client_of(one) as doomed, workers.client_of(other) as spared:
        await start(doomed)
        await start(spared, **{"x-generation-key": "spared"})
        os.kill(one, signal.SIGKILL)
        await read_to_the_cut(doomed)
        present = await workers.wait_workers(2, without=[one])
        for _ in range(20):
            await next_event(spared)

    assert other in present
    assert (await workers.metrics())["trioproxy_worker_restarts_total"] == counted + 1
    for pid in present:
        async with workers.client_of(pid) as client:
            await client.request("GET", "/readyz")
            assert (await client.response_head()).status == 200


async def test_they_are_replaced_under_load_and_no_call_is_lost(
    workers: Workers, engine: Simulator
) -> None:
    before, clients = workers.pids(), Clients(workers.url, patience=PATIENCE)
    descriptors = workers.count_descriptors()
    counted = (await workers.metrics()).get(JOINS.format("first"), 0)
    with watched(workers) as pidfds, trio.fail_after(PATIENCE):
        async with trio.open_nursery() as streams:
            for _ in range(20):
                streams.start_soon(clients.stream, "endless", ENDLESS)
            while clients.streaming < 20:  # noqa: ASYNC110 - nothing tells
                await trio.sleep(0.01)
            async with trio.open_nursery() as calling:
                calling.start_soon(clients.call_again_and_again, streams, CALLS_PER_SECOND)
                os.kill(workers.process.pid, signal.SIGUSR2)
                present = await workers.wait_workers(2, without=before)
                calling.cancel_scope.cancel()
        ended = sum(have_ended([pidfd], within=0) for pidfd in pidfds)

    assert clients.wrong == []
    assert not set(present) & set(before)
    assert ended == 2  # and the broker lives
    assert [error_of(end.words) for end in clients.ends["endless"]] == ["shutting_down"] * 20
    assert not any(b'"error"' in end.words for end in clients.ends["brief"])
    assert len(clients.ends["brief"]) > CALLS_PER_SECOND
    calls = 20 + len(clients.ends["brief"])
    assert (await workers.metrics())[JOINS.format("first")] == counted + calls
    assert workers.count_descriptors() == descriptors


async def test_a_broker_that_dies_is_replaced_and_what_runs_can_be_joined_again(
    workers: Workers, engine: Simulator
) -> None:
    one, other = workers.pids()
    async with workers.client_of(one) as first:
        generation_id = await start(first)
        [broker] = workers.broker_pids()
        os.kill(broker, signal.SIGKILL)

        async def measure() -> int:
            async with workers.client_of(other) as reader:
                await reader.request("GET", f"/v1/generations/{generation_id}")
                status = (await reader.response_head()).status
                await reader.body()
                return status

        await wait_equal(200, measure, what="the status", within=20, every=0.1)
        assert workers.pids() == [one, other]
        assert workers.broker_pids() != [broker]
        for _ in range(5):
            await next_event(first)


async def test_settings_are_loaded_anew_by_all(workers: Workers, settings: Path) -> None:
    async def status_of(pid: int) -> int:
        async with workers.client_of(pid) as client:
            await post(client, COMPLETION, headers=BRIEF)
            return (await client.response_head()).status

    for bound, status in (("1", 413), ("wrong", 413), (PROMPT, 200)):
        write_settings(settings, bound)
        os.kill(workers.process.pid, signal.SIGHUP)
        for pid in workers.pids():
            await wait_equal(status, partial(status_of, pid), what="the status", within=10)


async def test_with_a_broker_that_is_named_there_is_no_other(engine: Simulator) -> None:
    with (
        run_server("valkey") as server,
        open_workers(engine.url, "--cluster", server.url, own_broker=False) as workers,
    ):
        one, other = workers.pids()
        async with workers.client_of(one) as first, workers.client_of(other) as twin:
            generation_id = await start(first)
            await post(twin, COMPLETION, headers=REPLAY)
            joined = (await twin.response_head()).headers

    assert joined["x-generation-id"] == generation_id


async def test_when_it_is_told_to_go_streams_get_their_time_and_then_nothing_is_left(
    engine: Simulator,
) -> None:
    with open_workers(engine.url) as workers, watched(workers) as pidfds:
        one, other = workers.pids()
        finishing = {"x-sim-tokens": "20", "x-sim-rate": str(20 / DRAIN * 2)}
        async with workers.client_of(one) as first, workers.client_of(other) as second:
            await start(first)
            await post(second, COMPLETION, headers=finishing)
            await second.response_head()
            workers.process.terminate()
            *_, error, done = await read_events(first)
            told = await read_events(second)
        code = await workers.wait_exit(within=DRAIN + 10)

        assert code == 0
        assert have_ended(pidfds)
        assert (error_of(error.data), done.data) == ("shutting_down", DONE)
        assert told[-1].data == DONE
        assert not any(b'"error"' in event.data for event in told)
        with pytest.raises(OSError, match="refused"):
            async with open_client(workers.url):
                pass


async def test_a_second_signal_does_not_wait(engine: Simulator) -> None:
    with open_workers(engine.url, "--drain", "600") as workers, watched(workers) as pidfds:
        async with workers.client_of(workers.pids()[0]) as client:
            await start(client)
            workers.process.terminate()
            await wait_equal(
                True, lambda: _refuses(workers.url), what="it refuses newcomers", within=10
            )
            workers.process.send_signal(signal.SIGINT)
            assert await workers.wait_exit(within=10) == 0
            assert have_ended(pidfds)


async def _refuses(url: str) -> bool:
    try:
        async with open_client(url):
            return False
    except OSError:
        return True


async def test_when_the_supervisor_is_killed_nothing_is_left(engine: Simulator) -> None:
    with pytest.raises(AssertionError, match="ended with -9"):
        await kill_amid_a_stream(engine)
    await engine.wait_active(0)


async def kill_amid_a_stream(engine: Simulator) -> None:
    with open_workers(engine.url) as workers, watched(workers) as pidfds:
        async with workers.client_of(workers.pids()[0]) as client:
            await start(client)
            workers.process.kill()
            await read_to_the_cut(client)
        assert len(pidfds) == 3
        assert have_ended(pidfds)
