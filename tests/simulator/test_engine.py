"""A running engine: who leaves, who is stuck, what is recorded, and what is left when it closes."""

import errno
import json
import logging
import re
import socket
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.rawhttp import RawClient, open_client, post_stream
from trioproxy.simulator import (
    Call,
    EngineSettings,
    Outcome,
    SimulatedEngine,
    Stats,
    open_engine,
    simulate,
)
from trioproxy.simulator.generation import Generation
from trioproxy.testing import TaskCensus

COMPLETIONS = "/v1/completions"
ENDLESS = {"prompt": "Hello", "max_tokens": 1_000_000, "stream": True}
SHORT = {"prompt": "Hello", "max_tokens": 3}

DEPARTURES: list[Callable[[RawClient], None]] = [
    RawClient.close,
    RawClient.reset,
    RawClient.half_close,
]


@pytest.fixture
async def engine() -> AsyncGenerator[SimulatedEngine]:
    async with open_engine(settings=EngineSettings(rate=200, ttft=0)) as engine:
        yield engine


async def post(client: RawClient, body: dict[str, Any], headers: dict[str, str]) -> None:
    await client.request("POST", COMPLETIONS, headers=headers, body=json.dumps(body).encode())


@pytest.mark.parametrize("leave", DEPARTURES)
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="between tokens"),
        pytest.param({"x-sim-ttft": "600"}, id="before the first token"),
        pytest.param({"x-sim-rate": "0"}, id="at full speed"),
    ],
)
async def test_a_client_that_leaves_aborts_its_call_at_once(
    leave: Callable[[RawClient], None], headers: dict[str, str], engine: SimulatedEngine
) -> None:
    with TaskCensus() as census:
        async with post_stream(engine.url, COMPLETIONS, ENDLESS, headers) as client:
            left = time.time_ns()
            leave(client)
            with trio.fail_after(1):
                await engine.wait_until(lambda stats: stats.aborted == 1)
        await census.settled()

    assert Stats(calls=1, aborted=1, last_abort_unix_ns=engine.stats.last_abort_unix_ns) == (
        engine.stats
    )
    assert 0 <= engine.stats.last_abort_unix_ns - left < 100_000_000
    assert engine.calls[0].outcome == Outcome.ABORTED


@pytest.mark.parametrize("stray", [b"\r\n", b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"])
async def test_a_departure_is_seen_behind_stray_bytes(
    stray: bytes, engine: SimulatedEngine
) -> None:
    async with post_stream(engine.url, COMPLETIONS, ENDLESS, {"x-sim-rate": "1"}) as client:
        await client.send(stray)
        await wait_all_tasks_blocked()
        assert engine.stats.active == 1

    with trio.fail_after(1):
        await engine.wait_until(lambda stats: stats.aborted == 1)


async def test_a_client_that_leaves_before_a_whole_answer_aborts_it(
    engine: SimulatedEngine,
) -> None:
    async with open_client(engine.url) as client:
        await post(client, SHORT, {"x-sim-ttft": "600"})
        await engine.wait_until(lambda stats: stats.active == 1)

    with trio.fail_after(1):
        await engine.wait_until(lambda stats: stats.aborted == 1)


async def test_a_client_that_leaves_with_the_last_byte_has_not_aborted(
    engine: SimulatedEngine,
) -> None:
    for _ in range(50):
        headers = {"x-sim-rate": "0"}
        async with post_stream(
            engine.url, COMPLETIONS, SHORT | {"stream": True}, headers
        ) as client:
            while (event := await client.next_event()) is not None and event.data != b"[DONE]":
                pass

    assert (engine.stats.completed, engine.stats.aborted) == (50, 0)


async def test_a_client_that_leaves_in_the_middle_of_its_request_made_no_call(
    engine: SimulatedEngine,
) -> None:
    with TaskCensus() as census:
        async with open_client(engine.url) as client:
            await client.send(
                b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{"
            )
        await census.settled()

    assert Stats() == engine.stats


async def test_a_client_that_stops_reading_hinders_nobody(engine: SimulatedEngine) -> None:
    async with open_client(engine.url, rcvbuf=4096) as stuck:
        await post(stuck, ENDLESS, {"x-sim-rate": "0"})
        await engine.wait_until(lambda stats: stats.active == 1)
        await wait_all_tasks_blocked()  # so it is: at full speed only a blocked write waits
        async with post_stream(engine.url, COMPLETIONS, SHORT | {"stream": True}) as client:
            assert (await client.body()).endswith(b"data: [DONE]\n\n")
        assert engine.stats.active == 1

    with trio.fail_after(1):
        await engine.wait_until(lambda stats: stats.aborted == 1)


async def test_closing_ends_every_call_and_leaves_nothing() -> None:
    with TaskCensus() as census:
        async with AsyncExitStack() as clients:
            with trio.fail_after(5):
                async with open_engine(settings=EngineSettings(rate=0, ttft=0)) as engine:
                    stuck = await clients.enter_async_context(open_client(engine.url, rcvbuf=4096))
                    await post(stuck, ENDLESS, {})
                    waiting = await clients.enter_async_context(open_client(engine.url))
                    await post(waiting, SHORT, {"x-sim-ttft": "600"})
                    idle = await clients.enter_async_context(open_client(engine.url))
                    await engine.wait_until(lambda stats: stats.active == 2)
                    await wait_all_tasks_blocked()
                assert await idle.wait_closed() == "fin"
                assert await waiting.wait_closed() == "fin"
        await census.settled()

    assert [call.outcome for call in engine.calls] == [Outcome.CANCELLED] * 2
    assert Stats(calls=2) == engine.stats


async def test_the_block_s_own_error_closes_the_engine_too() -> None:
    with TaskCensus() as census:
        with pytest.RaisesGroup(ZeroDivisionError):
            async with open_engine() as engine, open_client(engine.url) as client:
                await post(client, ENDLESS, {})
                await engine.wait_until(lambda stats: stats.active == 1)
                raise ZeroDivisionError

        await census.settled()


async def test_a_failing_connection_fails_alone(
    engine: SimulatedEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def crash(self: Generation) -> Outcome:
        raise RuntimeError("a bug")

    async with post_stream(engine.url, COMPLETIONS, ENDLESS) as other:
        with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
            patch.setattr(Generation, "run", crash)
            async with open_client(engine.url) as client:
                await post(client, SHORT, {})
                assert await client.wait_closed() == "fin"
        assert await other.next_event() is not None
        assert engine.stats.active == 1
    assert "a bug" in caplog.text


async def test_a_client_that_leaves_before_its_short_answers_is_no_failure(
    engine: SimulatedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    with TaskCensus() as census:
        address = engine.url.removeprefix("http://").split(":")

        # All in one tick: the engine reads the requests when their client has gone.
        with socket.create_connection((address[0], int(address[1]))) as client:
            client.sendall(5 * b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        await wait_all_tasks_blocked()
        await census.settled()

    assert caplog.text == ""


async def test_a_process_without_free_descriptors_goes_on_when_there_are_some(
    engine: SimulatedEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accept = socket.socket.accept
    failures = [OSError(errno.EMFILE, "Too many open files")]

    def accept_later(listener: socket.socket) -> tuple[socket.socket, Any]:
        if failures:
            raise failures.pop()
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", accept_later)

    async with open_client(engine.url) as client:
        await client.request("GET", "/health")
        assert (await client.response_head()).status == 200
    assert "Too many open files" in caplog.text


async def test_a_connection_is_used_again(engine: SimulatedEngine) -> None:
    async with open_client(engine.url) as client:
        for _ in range(3):
            await post(client, SHORT | {"stream": True}, {})
            await client.response_head()
            assert (await client.body()).endswith(b"[DONE]\n\n")

    assert engine.stats.completed == 3


async def test_requests_sent_ahead_are_answered_in_turn(engine: SimulatedEngine) -> None:
    async with open_client(engine.url) as client:
        await post(client, SHORT | {"stream": True}, {})
        await client.response_head()
        await client.send(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        await client.send(b"GET /stats HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await client.body()).endswith(b"[DONE]\n\n")
        await client.response_head()
        assert json.loads(await client.body()) == {"status": "ok"}
        await client.response_head()
        assert json.loads(await client.body())["completed"] == 1


async def test_a_client_that_sends_without_end_while_it_is_answered_is_dropped(
    engine: SimulatedEngine,
) -> None:
    async with post_stream(engine.url, COMPLETIONS, ENDLESS, {"x-sim-rate": "1"}) as client:
        with pytest.raises(trio.BrokenResourceError):
            await _send_without_end(client)

    assert engine.stats.aborted == 1


async def _send_without_end(client: RawClient) -> None:
    while True:
        await client.send(b"x" * 65536)


async def test_a_client_may_ask_to_close(engine: SimulatedEngine) -> None:
    async with open_client(engine.url) as client:
        await post(client, SHORT, {"connection": "close"})
        await client.response_head()
        await client.body()
        assert await client.wait_closed() == "fin"

    assert engine.stats.completed == 1


async def test_an_http_1_0_client_gets_a_body_that_the_close_ends(
    engine: SimulatedEngine,
) -> None:
    body = json.dumps(SHORT | {"stream": True}).encode()
    head = f"POST {COMPLETIONS} HTTP/1.0\r\ncontent-length: {len(body)}\r\n\r\n"
    async with open_client(engine.url) as client:
        await client.send(head.encode() + body)
        response = await client.response_head()

        assert "transfer-encoding" not in response.headers
        assert (await client.body()).endswith(b"data: [DONE]\n\n")


async def test_a_body_is_asked_for_where_the_client_waits_to_be_asked(
    engine: SimulatedEngine,
) -> None:
    body = json.dumps(SHORT).encode()
    head = (
        f"POST {COMPLETIONS} HTTP/1.1\r\nhost: x\r\n"
        f"expect: 100-continue\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    async with open_client(engine.url) as client:
        await client.send(head.encode())
        assert await client.read_some() == b"HTTP/1.1 100 \r\n\r\n"
        await client.send(body)
        assert (await client.response_head()).status == 200


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 200_000, 431),
        (
            b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 17825792\r\n\r\n"
            + bytes(17 << 20),
            413,
        ),
    ],
    ids=["no HTTP", "no host", "large head", "large body"],
)
async def test_a_request_that_cannot_be_read_is_refused_and_its_connection_closed(
    request_bytes: bytes, status: int, engine: SimulatedEngine
) -> None:
    async with open_client(engine.url) as client:
        await client.send(request_bytes)
        head = await client.response_head()
        error = json.loads(await client.body())["error"]

        assert status == head.status
        assert error["type"] == "invalid_request_error"
        assert head.headers["connection"] == "close"
        assert await client.wait_closed() == "fin"
    assert engine.stats.calls == 0


async def test_a_call_is_recorded_as_it_was_received(engine: SimulatedEngine) -> None:
    before = trio.current_time()
    async with open_client(engine.url) as client:
        body = json.dumps(SHORT).encode()
        headers = {"Authorization": "Bearer key", "X-Other": "\xe9"}
        await client.request("POST", f"{COMPLETIONS}?a=1&b", headers=headers, body=body)
        await client.response_head()

    [call] = engine.calls
    assert (call.method, call.path, call.query) == ("POST", COMPLETIONS, "a=1&b")
    assert (call.headers["authorization"], call.headers["x-other"]) == ("Bearer key", "\xe9")
    assert body == call.body
    assert call.ended is not None
    assert before <= call.started <= call.ended <= trio.current_time()
    assert call.outcome == Outcome.COMPLETED


async def test_the_values_of_a_repeated_header_are_joined(engine: SimulatedEngine) -> None:
    async with open_client(engine.url) as client:
        await client.send(
            b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nx-a: 1\r\nX-A: 2\r\n"
            b'transfer-encoding: chunked\r\n\r\n3\r\n{"p\r\n1\r\n"\r\n0\r\n\r\n'
        )
        await client.response_head()

    [call] = engine.calls
    assert call.headers["x-a"] == "1, 2"
    assert call.body == b'{"p"'


@pytest.mark.parametrize(
    ("body_bytes", "kept"), [(0, 10_000), (6_710, 10_000), (1 << 20, 64), (16 << 20, 4)]
)
async def test_the_record_keeps_the_last_calls_within_bounds(body_bytes: int, kept: int) -> None:
    engine = SimulatedEngine("http://x", EngineSettings())
    body = bytes(body_bytes)

    for number in range(10_100):
        engine.begin(Call("POST", "/", str(number), {}, body, started=0))

    assert kept == len(engine.calls)
    assert engine.calls[-1].query == "10099"
    assert engine.stats.calls == 10_100


async def test_the_first_outcome_stands() -> None:
    engine = SimulatedEngine("http://x", EngineSettings())
    call = Call("POST", "/", "", {}, b"", started=0)
    engine.begin(call)

    engine.end(call, Outcome.COMPLETED)
    engine.end(call, Outcome.ABORTED)

    assert call.outcome == Outcome.COMPLETED
    assert Stats(calls=1, completed=1) == engine.stats


@pytest.mark.parametrize(
    "settings",
    [
        {"rate": -1},
        {"rate": float("nan")},
        {"ttft": float("inf")},
        {"keepalive": -0.1},
        {"tokens": 0},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    [name] = settings
    with pytest.raises(ValueError, match=name):
        EngineSettings(**settings)


@pytest.mark.parametrize("bind", ["", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "x:65536"])
async def test_an_address_that_is_none_is_refused(bind: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        async with open_engine(bind):
            pass


async def test_an_address_in_use_is_an_error(engine: SimulatedEngine) -> None:
    with pytest.raises(OSError, match="in use"):
        async with open_engine(engine.url.removeprefix("http://")):
            pass


async def test_it_listens_on_ipv6() -> None:
    async with open_engine("[::1]:0") as engine:
        port = int(engine.url.removeprefix("http://[::1]:"))
        stream = await trio.open_tcp_stream("::1", port)
        async with stream:
            await stream.send_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            assert bytes(await stream.receive_some()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("settings", "facts"),
    [
        (EngineSettings(), "50 tokens/s, ttft 0.05 s"),
        (EngineSettings(rate=0, ttft=0), "as fast as possible, ttft 0 s"),
    ],
)
async def test_simulate_tells_where_it_listens_and_runs_until_cancelled(
    settings: EngineSettings, facts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with TaskCensus() as census:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(simulate, "127.0.0.1:0", settings)
            await wait_all_tasks_blocked()
            line = capsys.readouterr().out
            nursery.cancel_scope.cancel()

        await census.settled()
    pattern = rf"simulated engine listening on http://127\.0\.0\.1:\d+ \({facts}\)\n"
    assert re.fullmatch(pattern, line)
