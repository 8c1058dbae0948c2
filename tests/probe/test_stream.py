"""The probe on real sockets, against the simulated engine and against servers that buffer."""

import io
import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest
import trio
from rich.console import Console

from trioproxy.probe import Ending, Report, exit_code, probe, verdict
from trioproxy.simulator import EngineSettings, SimulatedEngine, open_engine
from trioproxy.testing import TaskCensus

CHAT_BODY = b'{"messages": [{"role": "user", "content": "Hi"}], "stream": true, "max_tokens": 8}'
EVENT = b'data: {"choices": [{"text": "x"}]}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.fixture
async def engine() -> AsyncGenerator[SimulatedEngine]:
    async with open_engine(settings=EngineSettings(rate=100, ttft=0)) as engine:
        yield engine


@dataclass
class Server:
    """A server of one connection, and the request that it received."""

    url: str
    request: bytes = b""


@asynccontextmanager
async def serve_once(
    *writes: bytes, gap: float = 0.02, framing: bytes = b"connection: close"
) -> AsyncGenerator[Server]:
    """Answer one request with an event stream of these writes, `gap` seconds apart; then close."""

    async def serve() -> None:
        async with await listener.accept() as stream:
            # To its end: closing with unread input would reset the connection.
            while not _is_whole(server.request):
                server.request += await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
            for data in writes:
                await trio.sleep(gap)
                await stream.send_all(data)

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = Server("http://127.0.0.1:{1}".format(*listener.socket.getsockname()))
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield server
        nursery.cancel_scope.cancel()


def _is_whole(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(end) and len(body) == int(length[1] if length else 0)


async def test_an_engine_s_tokens_flow_one_by_one(engine: SimulatedEngine) -> None:
    [report] = await probe(engine.url, headers={"x-sim-tokens": "20"})

    assert (report.status, report.ending, report.tokens) == (200, Ending.COMPLETED, 20)
    assert report.events == 22, "20 tokens, the finish and [DONE]"
    assert report.reads > 10
    assert report.head is not None
    assert report.ttft is not None
    assert 0 < report.head <= report.ttft < report.duration
    assert report.bytes > 20 * len(EVENT)
    assert exit_code([report]) == 0


async def test_a_server_that_buffers_is_caught() -> None:
    async with serve_once(20 * EVENT, 20 * EVENT + DONE) as server:
        reports = await probe(server.url)

    assert verdict(reports).startswith("bunched: 40 tokens came in 2 reads")
    assert exit_code(reports) == 1


async def test_tokens_in_one_socket_read_are_bunched_though_each_has_its_http_chunk() -> None:
    # httpx hands them out one by one, as if they had come one by one.
    chunks = 10 * (b"%x\r\n%b\r\n" % (len(EVENT), EVENT)) + b"0\r\n\r\n"
    async with serve_once(chunks, framing=b"transfer-encoding: chunked") as server:
        [report] = await probe(server.url)

    assert (report.tokens, report.is_bunched) == (10, True)


@pytest.mark.parametrize(
    ("headers", "status", "ending", "detail"),
    [
        ({"x-sim-fail": "mid"}, 200, Ending.FAILED, "server_error"),
        ({"x-sim-fail": "truncate"}, 200, Ending.TRUNCATED, ""),
        ({"x-sim-fail": "cut"}, 200, Ending.BROKEN, "RemoteProtocolError"),
        ({"x-sim-fail": "stall"}, 200, Ending.BROKEN, "ReadTimeout"),
        ({"x-sim-status": "429"}, 429, Ending.REFUSED, "rate_limit_error"),
    ],
)
async def test_it_tells_how_a_stream_ended(
    headers: dict[str, str], status: int, ending: Ending, detail: str, engine: SimulatedEngine
) -> None:
    headers = {"x-sim-tokens": "8", **headers}

    [report] = await probe(engine.url, headers=headers, max_silence=0.2)

    assert (report.status, report.ending) == (status, ending)
    assert detail in report.detail
    assert report.tokens == (4 if status == 200 else 0)
    assert exit_code([report]) == 1


@pytest.mark.parametrize("url", ["", "/v1/completions", "ftp://x", "http://x:y", "http://x/\n"])
async def test_what_is_no_http_url_is_an_error(url: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        await probe(url)


async def test_a_header_that_is_not_ascii_is_an_error() -> None:
    with pytest.raises(ValueError, match="ascii"):
        await probe("127.0.0.1:1", headers={"x-name": "é"})


@pytest.mark.parametrize("url", ["127.0.0.1:1", "http://127.0.0.1:99999", "http://[x"])
async def test_an_address_that_nobody_answers_at_is_a_report(url: str) -> None:
    [report] = await probe(url)

    assert (report.status, report.ending, report.head) == (None, Ending.BROKEN, None)
    assert report.detail


async def test_an_answer_that_is_no_stream_is_truncated(engine: SimulatedEngine) -> None:
    [report] = await probe(engine.url, body=b'{"prompt": "Hello", "max_tokens": 2}')

    assert (report.ending, report.tokens) == (Ending.TRUNCATED, 0)
    assert report.detail == "a body without events"


async def test_an_event_that_lacks_its_blank_line_counts() -> None:
    async with serve_once(EVENT, b"data: [DONE]") as server:
        [report] = await probe(server.url)

    assert (report.ending, report.events) == (Ending.COMPLETED, 2)


async def test_an_event_without_bounds_breaks_the_stream() -> None:
    async with serve_once(*[b"data: " + bytes(1 << 20)] * 18, gap=0) as server:
        [report] = await probe(server.url)

    assert report.ending is Ending.BROKEN
    assert "more than" in report.detail


async def test_the_first_word_on_the_end_stands() -> None:
    error = b'data: {"error": {"message": "no"}}\n\n'
    async with serve_once(EVENT, error + DONE) as server:
        [report] = await probe(server.url)

    assert report.ending is Ending.FAILED


@pytest.mark.parametrize("path", ["", "/"])
async def test_without_a_path_a_completion_of_64_tokens_is_asked_for(
    path: str, engine: SimulatedEngine
) -> None:
    [report] = await probe(engine.url.removeprefix("http://") + path, headers={"x-sim-rate": "0"})

    [call] = engine.calls
    assert call.path == "/v1/completions"
    assert json.loads(call.body) == {"prompt": "Hello", "max_tokens": 64, "stream": True}
    assert report.tokens == 64


async def test_it_sends_what_it_is_given_and_asks_for_no_compression(
    engine: SimulatedEngine,
) -> None:
    headers = {"Authorization": "Bearer key", "Accept": "*/*"}

    [report] = await probe(f"{engine.url}/v1/chat/completions?a=1", body=CHAT_BODY, headers=headers)

    [call] = engine.calls
    assert (call.path, call.query, call.body) == ("/v1/chat/completions", "a=1", CHAT_BODY)
    assert (call.headers["authorization"], call.headers["accept"]) == ("Bearer key", "*/*")
    assert call.headers["accept-encoding"] == "identity"
    assert (report.ending, report.tokens) == (Ending.COMPLETED, 8)


async def test_events_are_fetched_with_get_whatever_the_dialect() -> None:
    async with serve_once(b"event: tick\ndata: 1\n\n", b": a comment\n\n", DONE) as server:
        [report] = await probe(f"{server.url}/v1/generations/gen_1/events")

    assert server.request.startswith(b"GET /v1/generations/gen_1/events HTTP/1.1\r\n")
    assert b"content-type" not in server.request.lower()
    assert (report.ending, report.events) == (Ending.COMPLETED, 2)


async def test_streams_run_side_by_side(engine: SimulatedEngine) -> None:
    reports: list[Report] = []

    async def run() -> None:
        reports.extend(
            await probe(engine.url, headers={"x-sim-fail": "stall"}, count=5, max_silence=0.3)
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        with trio.fail_after(2):
            await engine.wait_until(lambda stats: stats.active == 5)

    assert [report.ending for report in reports] == [Ending.BROKEN] * 5


async def test_cancelling_closes_every_connection(engine: SimulatedEngine) -> None:
    with TaskCensus() as census:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(probe, engine.url, headers={"x-sim-rate": "1"}, count=3))
            await engine.wait_until(lambda stats: stats.active == 3)
            nursery.cancel_scope.cancel()

        with trio.fail_after(1):
            await engine.wait_until(lambda stats: stats.aborted == 3)
        await census.settled()


async def test_a_proxy_in_the_environment_is_not_used(
    engine: SimulatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    [report] = await probe(engine.url, headers={"x-sim-tokens": "2"})

    assert report.ending is Ending.COMPLETED


async def test_progress_is_shown_on_a_terminal_and_wiped(engine: SimulatedEngine) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)

    await probe(engine.url, headers={"x-sim-tokens": "2"}, count=2, console=console)

    assert "0 of 2 streams ended" in screen.getvalue()
    assert "\x1b[2K" in screen.getvalue()


async def test_no_progress_is_shown_elsewhere(engine: SimulatedEngine) -> None:
    screen = io.StringIO()

    await probe(engine.url, headers={"x-sim-tokens": "2"}, console=Console(file=screen))

    assert screen.getvalue() == ""
