"""The proxy behind nginx and behind Caddy, as `deploy/` configures them: what holds without them
holds through them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio_websocket import wrap_client_stream

from tests.deploy.fronts import OPENERS, Front
from tests.deploy.http2 import Http2Client, open_http2, open_tls
from tests.e2e.commands import Proxy, Simulator, open_proxy, open_simulator
from tests.support.sse import SseEvent, SseReader
from tests.web.sockets import SUBPROTOCOL, Socket
from trioproxy.probe import Arrival, Ending, Report, Trace, measure
from trioproxy.wire import ROUTES, Verdict

COMPLETIONS = "/v1/completions"
TOKENS = 20
JSON = {"content-type": "application/json"}
ENDLESS = {"prompt": "The river", "stream": True, "max_tokens": 1_000_000}
"""Hours of tokens, at 50 a second."""


@pytest.fixture(scope="module")
def engine() -> Iterator[Simulator]:
    with open_simulator("--rate", "50", "--ttft", "0") as simulator:
        yield simulator


@pytest.fixture(scope="module")
def _proxy(engine: Simulator) -> Iterator[Proxy]:
    with open_proxy(engine.url, "--drain", "1", "--write-timeout", "1") as proxy:
        yield proxy


@pytest.fixture(scope="module", params=list(OPENERS))
def front(
    request: pytest.FixtureRequest, _proxy: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    with OPENERS[request.param](_proxy.url, tmp_path_factory.mktemp(request.param)) as front:
        yield front


@pytest.fixture
async def proxy(_proxy: Proxy, engine: Simulator) -> AsyncIterator[Proxy]:
    """What the front is in front of. A test must leave it, and the engine, with nothing to do."""
    yield _proxy
    await engine.wait_active(0)
    await _proxy.wait_census({"generations": 0, "subscribers": 0, "upstream_calls": 0})


@asynccontextmanager
async def open_browser(front: Front) -> AsyncGenerator[Http2Client]:
    async with open_http2(front.port, front.trust("h2", "http/1.1")) as client:
        yield client


@asynccontextmanager
async def open_socket(front: Front) -> AsyncGenerator[Socket]:
    async with (
        await open_tls(front.port, front.trust("http/1.1")) as stream,
        trio.open_nursery() as tasks,
    ):
        host = f"localhost:{front.port}"
        origin = [(b"origin", front.url.encode())]
        connection = await wrap_client_stream(
            tasks, stream, host, "/v1/ws", extra_headers=origin, subprotocols=[SUBPROTOCOL]
        )
        yield Socket(connection, stream.transport_stream)
        await connection.aclose()
        tasks.cancel_scope.cancel(reason="the test is through with it")


async def post(client: Http2Client, path: str, body: object) -> None:
    await client.ask("POST", path, headers=JSON, body=json.dumps(body).encode())


async def measure_flow(client: Http2Client, path: str) -> Report:
    """How the answer that the client is about to receive flows, as the probe tells it."""
    dialect = ROUTES[path]
    parser = dialect.framing.parser(1 << 20)
    trace = Trace(started=trio.current_time())
    while (piece := await client.receive()) is not None:
        messages = parser.feed(piece)
        tokens = sum(bool(dialect.text(message)) for message in messages)
        if messages:
            trace.arrivals.append(Arrival(trio.current_time(), len(messages), tokens))
        if any(dialect.verdict(message) is Verdict.COMPLETED for message in messages):
            trace.ending = Ending.COMPLETED
    trace.ended = trio.current_time()
    return measure(trace)


@pytest.mark.parametrize(
    ("path", "body", "content_type"),
    [
        (
            COMPLETIONS,
            {"prompt": "The river", "max_tokens": TOKENS, "stream": True},
            "text/event-stream; charset=utf-8",
        ),
        (
            "/api/generate",
            {"prompt": "The river", "options": {"num_predict": TOKENS}},
            "application/x-ndjson",
        ),
    ],
)
@pytest.mark.usefixtures("proxy")
async def test_tokens_come_one_by_one(
    front: Front, path: str, body: object, content_type: str
) -> None:
    async with open_browser(front) as client:
        await post(client, path, body)
        status, headers = await client.head()
        report = await measure_flow(client, path)

    assert (status, headers["content-type"]) == (200, content_type)
    assert "content-encoding" not in headers
    assert (report.ending, report.tokens) == (Ending.COMPLETED, TOKENS)
    assert not report.is_bunched, report


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.usefixtures("proxy")
async def test_curl_is_spoken_to_in_http2(front: Front) -> None:
    trusting = ["--cacert", str(front.authority)]
    telling = ["--output", "/dev/null", "--write-out", "%{http_version} %{http_code}"]
    told = await trio.run_process(
        [
            "curl",
            "--silent",
            "--show-error",
            "--http2",
            *trusting,
            *telling,
            f"{front.url}/healthz",
        ],
        capture_stdout=True,
        stderr=subprocess.STDOUT,
    )

    assert told.stdout == b"2 200"


async def leave_a_stream(front: Front, engine: Simulator) -> None:
    """On a connection that lives on."""
    async with open_browser(front) as client:
        await post(client, COMPLETIONS, ENDLESS)
        assert await client.receive()
        await engine.wait_active(1)
        await client.leave()
        await engine.wait_active(0)


async def leave_with_the_connection(front: Front, engine: Simulator) -> None:
    async with open_browser(front) as client:
        await post(client, COMPLETIONS, ENDLESS)
        assert await client.receive()
        await engine.wait_active(1)


async def leave_before_the_answer(front: Front, engine: Simulator) -> None:
    async with open_browser(front) as client:
        await post(client, COMPLETIONS, ENDLESS | {"stream": False})
        await engine.wait_active(1)


async def leave_by_websocket(front: Front, engine: Simulator) -> None:
    async with open_socket(front) as client:
        await client.say(type="generate", path=COMPLETIONS, body=ENDLESS)
        await engine.wait_active(1)


@pytest.mark.parametrize(
    "leave",
    [
        leave_a_stream,
        leave_with_the_connection,
        leave_before_the_answer,
        leave_by_websocket,
    ],
)
@pytest.mark.usefixtures("proxy")
async def test_the_engine_stops_when_its_client_leaves(
    front: Front, engine: Simulator, leave: Callable[[Front, Simulator], Awaitable[None]]
) -> None:
    await leave(front, engine)

    await engine.wait_active(0)


@pytest.mark.usefixtures("proxy")
async def test_a_client_that_stops_reading_is_cut_off(front: Front, engine: Simulator) -> None:
    async with open_browser(front) as client:
        as_fast_as_it_can = JSON | {"x-sim-rate": "0"}
        body = json.dumps(ENDLESS).encode()
        await client.ask("POST", COMPLETIONS, headers=as_fast_as_it_can, body=body)
        await client.head()
        await engine.wait_active(1)

        await engine.wait_active(0, within=10)


@pytest.mark.usefixtures("proxy")
async def test_a_reader_resumes(front: Front) -> None:
    creation = {"path": COMPLETIONS, "body": {"prompt": "The river", "max_tokens": TOKENS}}
    async with open_browser(front) as client:
        await post(client, "/v1/generations", creation)
        _, headers = await client.head()
        await client.read()
        generation = headers["location"]
        await client.ask("GET", f"{generation}/events")
        first = await read_events(client, at_least=5)
        await client.leave()

    async with open_browser(front) as client:
        resumption = {"last-event-id": first[-1].id or ""}
        await client.ask("GET", f"{generation}/events", headers=resumption)
        rest = await read_events(client)
        await client.ask(
            "GET", f"{generation}/events", headers={"last-event-id": rest[-1].id or ""}
        )
        status, _ = await client.head()

    ids = [event.id for event in first + rest]
    assert ids == [f"{generation.rpartition('/')[2]}:{seq}" for seq in range(1, len(ids) + 1)]
    assert len(first) < TOKENS < len(ids)
    assert rest[-1].data == b"[DONE]"
    assert status == 204


@pytest.mark.usefixtures("proxy")
async def test_a_page_talks_over_a_websocket(front: Front) -> None:
    body = {"prompt": "The river", "max_tokens": TOKENS}
    async with open_socket(front) as client:
        await client.say(type="generate", path=COMPLETIONS, body=body, ref="mine")
        started, *events, end = await client.hear_to_end()

    assert client.connection.subprotocol == SUBPROTOCOL
    assert (started["type"], started["ref"]) == ("generation", "mine")
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert len(events) > TOKENS
    assert end["outcome"] == {"kind": "completed", "reason": None}


async def test_connections_to_the_proxy_are_used_again(front: Front, proxy: Proxy) -> None:
    async with open_browser(front) as client:
        for _ in range(10):
            await client.ask("GET", "/healthz")
            assert (await client.head())[0] == 200
            await client.read()

        # One of the front's, and the one that asks.
        await proxy.wait_census({"connections": 2})


async def read_events(client: Http2Client, *, at_least: int | None = None) -> list[SseEvent]:
    """The events of an answer up to its end, or at least so many."""
    status, _ = await client.head()
    assert status == 200
    reader = SseReader()
    events: list[SseEvent] = []
    while at_least is None or len(events) < at_least:
        piece = await client.receive()
        if piece is None:
            break
        events += reader.feed(piece)
    return events
