"""How the simulated engine refuses and breaks, when a request asks for it or is wrong."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import trio

from tests.support.rawhttp import RawClient, open_client, post_stream
from trioproxy.simulator import EngineSettings, Outcome, SimulatedEngine, generate_text, open_engine

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"
BODY = {"prompt": "Hello", "max_tokens": 10}


@pytest.fixture
async def engine() -> AsyncGenerator[SimulatedEngine]:
    async with open_engine(settings=EngineSettings(rate=0, ttft=0)) as engine:
        yield engine


async def post(
    client: RawClient, body: bytes | dict[str, Any], path: str = COMPLETIONS, **headers: str
) -> Any:
    """POST and return the error object of the answer; the client has its head."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    await client.request("POST", path, headers=fields, body=content)
    await client.response_head()
    return json.loads(await client.body())["error"]


async def texts_of(client: RawClient) -> tuple[list[str], list[bytes]]:
    """Read a stream to its end: its texts, and the data of the events that are not tokens."""
    texts: list[str] = []
    others: list[bytes] = []
    while (event := await client.next_event()) is not None:
        choices = json.loads(event.data).get("choices") if event.data[:1] == b"{" else None
        if choices:
            texts.append(choices[0]["text"])
        else:
            others.append(event.data)
    return texts, others


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (COMPLETIONS, b"", None),
        (COMPLETIONS, b"nonsense", None),
        (COMPLETIONS, b"[]", None),
        (COMPLETIONS, b'{"prompt": "\xff"}', None),
        (COMPLETIONS, b'{"prompt": "\\ud800"}', None),
        (COMPLETIONS, b'{"x": ' + b"[" * 100_000, None),
        (COMPLETIONS, {}, "prompt"),
        (COMPLETIONS, {"prompt": 5}, "prompt"),
        (COMPLETIONS, BODY | {"max_tokens": 0}, "max_tokens"),
        (COMPLETIONS, BODY | {"max_tokens": "5"}, "max_tokens"),
        (COMPLETIONS, BODY | {"max_tokens": 10**6, "n": 2}, "max_tokens"),
        (COMPLETIONS, BODY | {"n": 129}, "n"),
        (COMPLETIONS, BODY | {"stream": "yes"}, "stream"),
        (CHAT, {}, "messages"),
        (CHAT, {"messages": []}, "messages"),
        (CHAT, {"messages": [{"content": "a"}]}, "messages"),
    ],
)
async def test_a_wrong_body_is_refused_and_the_field_named(
    path: str, body: Any, param: str | None, engine: SimulatedEngine
) -> None:
    async with open_client(engine.url) as client:
        error = await post(client, body, path)

    assert client.head.status == 400
    assert {"message", "type", "param", "code"} == error.keys()
    assert error["type"] == "invalid_request_error"
    assert param == error["param"]
    assert engine.calls[0].outcome == Outcome.REFUSED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-sim-fail", "sometimes"),
        ("x-sim-fail", ""),
        ("x-sim-rate", "-1"),
        ("x-sim-rate", "nan"),
        ("x-sim-rate", "fast"),
        ("x-sim-ttft", "inf"),
        ("x-sim-tokens", "0"),
        ("x-sim-tokens", "2.5"),
        ("x-sim-status", "200"),
        ("x-sim-status", "600"),
        ("x-sim-retry-after", "7 \xe9"),
        ("x-sim-frobnicate", "1"),
    ],
)
async def test_a_wrong_switch_is_refused_and_the_header_named(
    name: str, value: str, engine: SimulatedEngine
) -> None:
    async with open_client(engine.url) as client:
        error = await post(client, BODY, **{name: value})

    assert client.head.status == 400
    assert name == error["param"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/v1/completions/", 404),
        ("GET", COMPLETIONS, 405),
        ("POST", "/stats", 405),
    ],
)
async def test_what_is_not_there_is_refused(
    method: str, path: str, status: int, engine: SimulatedEngine
) -> None:
    async with open_client(engine.url) as client:
        await client.request(method, path)
        head = await client.response_head()
        error = json.loads(await client.body())["error"]

    assert status == head.status
    assert error["type"] == "invalid_request_error"
    assert engine.stats.calls == 0


async def test_head_gets_no_body(engine: SimulatedEngine) -> None:
    async with open_client(engine.url) as client:
        await client.request("HEAD", "/health")
        head = await client.response_head()
        await client.request("GET", "/health")
        after = await client.response_head()

    assert (head.status, head.headers["allow"]) == (405, "GET")
    assert after.status == 200


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, "invalid_request_error"), (429, "rate_limit_error"), (503, "server_error")],
)
async def test_a_status_that_is_asked_for_comes_instead_of_an_answer(
    status: int, kind: str, engine: SimulatedEngine
) -> None:
    async with open_client(engine.url) as client:
        error = await post(client, BODY, x_sim_status=str(status), x_sim_retry_after="7")

    assert (client.head.status, client.head.headers["retry-after"]) == (status, "7")
    assert kind == error["type"]


async def test_a_failure_before_the_stream_is_a_500(engine: SimulatedEngine) -> None:
    async with open_client(engine.url) as client:
        error = await post(client, BODY | {"stream": True}, x_sim_fail="before")

    assert client.head.status == 500
    assert error["type"] == "server_error"
    assert "retry-after" not in client.head.headers
    assert engine.calls[0].outcome == Outcome.REFUSED


async def test_a_failure_in_the_middle_is_told_in_an_event_and_closes(
    engine: SimulatedEngine,
) -> None:
    body = BODY | {"stream": True}
    async with post_stream(engine.url, COMPLETIONS, body, {"x-sim-fail": "mid"}) as client:
        texts, [error] = await texts_of(client)

        assert client.ended_properly
        assert await client.wait_closed() == "fin"
    assert generate_text("Hello", 5) == texts
    assert json.loads(error)["error"]["type"] == "server_error"
    assert engine.calls[0].outcome == Outcome.FAILED


async def test_a_truncated_stream_ends_like_a_whole_one_but_for_its_terminal_event(
    engine: SimulatedEngine,
) -> None:
    body = BODY | {"stream": True}
    async with post_stream(engine.url, COMPLETIONS, body, {"x-sim-fail": "truncate"}) as client:
        texts, others = await texts_of(client)

        assert client.ended_properly
        await client.request("GET", "/health")
        assert (await client.response_head()).status == 200
    assert (generate_text("Hello", 5), []) == (texts, others)


async def test_a_cut_stream_lacks_its_last_chunk(engine: SimulatedEngine) -> None:
    body = BODY | {"stream": True}
    async with post_stream(engine.url, COMPLETIONS, body, {"x-sim-fail": "cut"}) as client:
        texts, others = await texts_of(client)

        assert not client.ended_properly
    assert (generate_text("Hello", 5), []) == (texts, others)
    assert engine.calls[0].outcome == Outcome.FAILED


async def test_a_stalled_stream_lasts_until_its_client_leaves(engine: SimulatedEngine) -> None:
    body = BODY | {"stream": True}
    async with post_stream(engine.url, COMPLETIONS, body, {"x-sim-fail": "stall"}) as client:
        for _ in range(5):
            assert await client.next_event() is not None
        assert engine.stats.active == 1

    with trio.fail_after(1):
        await engine.wait_until(lambda stats: stats.active == 0)
    assert engine.calls[0].outcome == Outcome.ABORTED


async def test_switches_win_over_settings_and_body(engine: SimulatedEngine) -> None:
    switches = {"x-sim-tokens": "3", "x-sim-rate": "100", "x-sim-ttft": "0.03"}
    body = BODY | {"stream": True}
    async with post_stream(engine.url, COMPLETIONS, body, switches) as client:
        texts, _ = await texts_of(client)

    # The last event's text is empty: it tells why the stream ended.
    assert [*generate_text("Hello", 3), ""] == texts
    [call] = engine.calls
    assert call.ended is not None
    assert call.ended - call.started >= 0.05


@pytest.mark.parametrize(
    ("failure", "status", "ended_properly"),
    [("mid", 500, True), ("truncate", 200, True), ("cut", 200, False)],
)
async def test_a_whole_answer_breaks_in_its_own_ways(
    failure: str, status: int, ended_properly: bool, engine: SimulatedEngine
) -> None:
    async with open_client(engine.url) as client:
        headers = {"x-sim-fail": failure}
        await client.request("POST", COMPLETIONS, headers=headers, body=json.dumps(BODY).encode())
        head = await client.response_head()
        body = await client.body()

    assert status == head.status
    assert ended_properly == client.ended_properly
    if status == 200:
        assert body.startswith(b'{"id":')
        with pytest.raises((json.JSONDecodeError, UnicodeDecodeError)):
            json.loads(body)
    assert engine.calls[0].outcome == Outcome.FAILED


async def test_a_stalled_whole_answer_never_comes(engine: SimulatedEngine) -> None:
    async with open_client(engine.url) as client:
        headers = {"x-sim-fail": "stall"}
        await client.request("POST", COMPLETIONS, headers=headers, body=json.dumps(BODY).encode())
        with pytest.raises(trio.TooSlowError):
            await client.response_head(within=0.05)
        assert engine.stats.active == 1

    with trio.fail_after(1):
        await engine.wait_until(lambda stats: stats.aborted == 1)
