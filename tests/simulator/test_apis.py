"""What holds for every API of the engine: its streams, its whole answers, and how both break."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import trio

from tests.simulator.speech import BY_PATH, SPEECHES, Speech, events_of, fetch, posted
from tests.support.rawhttp import open_client
from trioproxy.simulator import EngineSettings, Outcome, SimulatedEngine, generate_text, open_engine

every_api = pytest.mark.parametrize("speech", SPEECHES, ids=lambda speech: speech.path)


@pytest.fixture
async def engine() -> AsyncGenerator[SimulatedEngine]:
    settings = EngineSettings(rate=0, ttft=0, tokens=7, model="tiny")
    async with open_engine(settings=settings) as engine:
        yield engine


async def stream(
    engine: SimulatedEngine, speech: Speech, tokens: int = 10, **switches: str
) -> tuple[list[Any], bool]:
    """Return the events of a stream, and whether its body ended properly."""
    headers = {name.replace("_", "-"): value for name, value in switches.items()}
    body = {**speech.body, **speech.limit(tokens), "stream": True}
    async with posted(engine.url, speech.path, body, headers) as client:
        events = await events_of(client)
        return events, client.ended_properly


def texts_of(speech: Speech, events: list[Any]) -> list[str]:
    return [text for event in events if (text := speech.token(event)) is not None]


@every_api
async def test_a_stream_has_one_token_per_event_and_then_its_end(
    speech: Speech, engine: SimulatedEngine
) -> None:
    events, ended_properly = await stream(engine, speech, 20)

    assert generate_text("Hello", 20) == texts_of(speech, events)
    assert [speech.last(event) for event in events] == [False] * (len(events) - 1) + [True]
    assert ended_properly
    assert engine.calls[0].outcome == Outcome.COMPLETED


@every_api
async def test_a_whole_answer_is_the_text_of_the_stream(
    speech: Speech, engine: SimulatedEngine
) -> None:
    body = {**speech.body, **speech.limit(20), "stream": False}

    status, whole = await fetch(engine.url, speech.path, body)

    assert status == 200
    assert "".join(generate_text("Hello", 20)) == speech.text(whole)


@every_api
async def test_an_answer_is_streamed_unasked_by_ollama_alone(
    speech: Speech, engine: SimulatedEngine
) -> None:
    body = {**speech.body, **speech.limit(3)}

    async with posted(engine.url, speech.path, body) as client:
        kind = client.head.headers["content-type"]

    streamed = speech.path.startswith("/api/")
    assert ("application/x-ndjson" if streamed else "application/json") == kind


@every_api
async def test_a_seed_gives_another_text(speech: Speech, engine: SimulatedEngine) -> None:
    seed = {"options": {"seed": 5}} if speech.path.startswith("/api/") else {"seed": 5}

    _, whole = await fetch(
        engine.url, speech.path, {**speech.body, **seed, "stream": False}, {"x-sim-tokens": "9"}
    )

    assert "".join(generate_text("Hello", 9, seed=5)) == speech.text(whole)


@pytest.mark.parametrize(
    ("path", "body", "prompt"),
    [
        ("/v1/responses", {"input": "a", "instructions": "be brief"}, "be brief\na"),
        (
            "/v1/responses",
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": "水"}]},
                    {"type": "function_call_output", "call_id": "c", "output": "5"},
                    {"role": "user", "content": "b"},
                ]
            },
            "水\n\nb",
        ),
        (
            "/v1/messages",
            {"system": "be brief", "messages": [{"role": "user", "content": "a"}]},
            "be brief\na",
        ),
        (
            "/v1/messages",
            {
                "system": [{"type": "text", "text": "be"}, {"type": "text", "text": " brief"}],
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "水"}]},
                    {"role": "assistant", "content": "b"},
                ],
            },
            "be brief\n水\nb",
        ),
        ("/completion", {"prompt": ["one", " two", 3]}, "one two 3"),
        ("/api/generate", {"prompt": "a", "system": "be brief"}, "be brief\na"),
        (
            "/api/chat",
            {"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]},
            "a\nb",
        ),
    ],
)
async def test_the_text_follows_from_the_prompt(
    path: str, body: dict[str, Any], prompt: str, engine: SimulatedEngine
) -> None:
    _, whole = await fetch(engine.url, path, {**body, "stream": False}, {"x-sim-tokens": "9"})

    assert "".join(generate_text(prompt, 9)) == BY_PATH[path].text(whole)


@every_api
async def test_a_failure_in_the_middle_is_told_in_the_api_s_own_words(
    speech: Speech, engine: SimulatedEngine
) -> None:
    (*events, error), ended_properly = await stream(engine, speech, x_sim_fail="mid")

    assert generate_text("Hello", 5) == texts_of(speech, events)
    assert speech.error(error) == "a failure that the request asked for"
    assert ended_properly
    assert engine.calls[0].outcome == Outcome.FAILED


@pytest.mark.parametrize(
    ("path", "error"),
    [
        (
            "/v1/responses",
            {
                "type": "error",
                "code": "server_error",
                "message": "a failure that the request asked for",
                "param": None,
                "error": {
                    "type": "server_error",
                    "code": "server_error",
                    "message": "a failure that the request asked for",
                    "param": None,
                },
                "sequence_number": 9,
            },
        ),
        (
            "/v1/messages",
            {
                "type": "error",
                "error": {
                    "type": "overloaded_error",
                    "message": "a failure that the request asked for",
                },
            },
        ),
        (
            "/completion",
            {
                "error": {
                    "code": 500,
                    "message": "a failure that the request asked for",
                    "type": "server_error",
                }
            },
        ),
        ("/api/chat", {"error": "a failure that the request asked for"}),
    ],
)
async def test_the_words_of_a_failure_in_the_middle(
    path: str, error: dict[str, Any], engine: SimulatedEngine
) -> None:
    events, _ = await stream(engine, BY_PATH[path], x_sim_fail="mid")

    assert error == events[-1]


@every_api
@pytest.mark.parametrize(("failure", "ended_properly"), [("truncate", True), ("cut", False)])
async def test_a_stream_that_stops_half_way_lacks_its_end(
    failure: str, ended_properly: bool, speech: Speech, engine: SimulatedEngine
) -> None:
    events, ended = await stream(engine, speech, x_sim_fail=failure)

    assert generate_text("Hello", 5) == texts_of(speech, events)
    assert not any(speech.last(event) for event in events)
    assert ended_properly == ended
    assert engine.calls[0].outcome == Outcome.FAILED


@every_api
async def test_a_stalled_stream_lasts_until_its_client_leaves(
    speech: Speech, engine: SimulatedEngine
) -> None:
    last_token = json.dumps(generate_text("Hello", 5)[-1]).encode()
    body = {**speech.body, **speech.limit(10), "stream": True}
    async with posted(engine.url, speech.path, body, {"x-sim-fail": "stall"}) as client:
        received = b""
        while last_token not in received:
            received += await client.chunk() or pytest.fail("the stream has ended")
        with pytest.raises(trio.TooSlowError):
            await client.chunk(within=0.02)
        assert engine.stats.active == 1

    with trio.fail_after(1):
        await engine.wait_until(lambda stats: stats.aborted == 1)


@every_api
@pytest.mark.parametrize(
    ("failure", "status", "ended_properly"),
    [("mid", 500, True), ("truncate", 200, True), ("cut", 200, False)],
)
async def test_a_whole_answer_breaks_in_its_own_ways(
    failure: str, status: int, ended_properly: bool, speech: Speech, engine: SimulatedEngine
) -> None:
    body = {**speech.body, **speech.limit(10), "stream": False}
    async with posted(engine.url, speech.path, body, {"x-sim-fail": failure}) as client:
        content = await client.body()

        assert status == client.head.status
        assert ended_properly == client.ended_properly
    if status == 500:
        assert speech.error(json.loads(content)) == "a failure that the request asked for"
    else:
        with pytest.raises((json.JSONDecodeError, UnicodeDecodeError)):
            json.loads(content)


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        (
            "/v1/responses",
            429,
            {"error": {"type": "rate_limit_error", "param": None, "code": None}},
        ),
        ("/v1/messages", 401, {"type": "error", "error": {"type": "authentication_error"}}),
        ("/v1/messages", 418, {"type": "error", "error": {"type": "invalid_request_error"}}),
        ("/v1/messages", 429, {"type": "error", "error": {"type": "rate_limit_error"}}),
        ("/v1/messages", 500, {"type": "error", "error": {"type": "api_error"}}),
        ("/v1/messages", 529, {"type": "error", "error": {"type": "overloaded_error"}}),
        ("/completion", 429, {"error": {"code": 429, "type": "invalid_request_error"}}),
        ("/completion", 500, {"error": {"code": 500, "type": "server_error"}}),
        ("/completion", 503, {"error": {"code": 503, "type": "unavailable_error"}}),
        ("/api/generate", 429, {"error": "a failure that the request asked for"}),
        ("/api/chat", 503, {"error": "a failure that the request asked for"}),
    ],
)
async def test_a_status_that_is_asked_for_has_the_body_of_the_api(
    path: str, status: int, error: dict[str, Any], engine: SimulatedEngine
) -> None:
    speech = BY_PATH[path]
    if isinstance(error["error"], dict):
        details = {**error["error"], "message": "a failure that the request asked for"}
        error = {**error, "error": details}
    headers = {"x-sim-status": str(status), "x-sim-retry-after": "7"}
    body = {**speech.body, **speech.limit(3), "stream": True}
    async with posted(engine.url, path, body, headers) as client:
        assert (client.head.status, client.head.headers["retry-after"]) == (status, "7")
        assert error == json.loads(await client.body())


@every_api
async def test_a_failure_before_the_stream_is_a_500(
    speech: Speech, engine: SimulatedEngine
) -> None:
    body = {**speech.body, **speech.limit(3), "stream": True}

    status, error = await fetch(engine.url, speech.path, body, {"x-sim-fail": "before"})

    assert status == 500
    assert speech.error(error) == "a failure that the request asked for"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/responses", {}, "input"),
        ("/v1/responses", {"input": []}, "input"),
        ("/v1/responses", {"input": "a", "max_output_tokens": 0}, "max_output_tokens"),
        ("/v1/messages", {"max_tokens": 5}, "messages"),
        ("/v1/messages", {"max_tokens": 5, "messages": []}, "messages"),
        ("/v1/messages", {"messages": [{"role": "user", "content": "a"}]}, "max_tokens"),
        ("/completion", {}, "prompt"),
        ("/completion", {"prompt": "a", "n_predict": "5"}, "n_predict"),
        ("/api/generate", {}, "prompt"),
        ("/api/generate", {"prompt": "a", "options": {"num_predict": 0}}, "num_predict"),
        ("/api/chat", {}, "messages"),
        ("/api/chat", {"messages": [], "stream": True}, "messages"),
    ],
)
async def test_a_wrong_body_is_refused_and_the_field_named(
    path: str, body: dict[str, Any], field: str, engine: SimulatedEngine
) -> None:
    status, error = await fetch(engine.url, path, body)

    assert status == 400
    assert field in BY_PATH[path].error(error)
    assert engine.calls[0].outcome == Outcome.REFUSED


async def test_a_message_s_number_of_tokens_may_come_from_the_switch(
    engine: SimulatedEngine,
) -> None:
    speech = BY_PATH["/v1/messages"]

    status, whole = await fetch(engine.url, speech.path, speech.body, {"x-sim-tokens": "4"})

    assert status == 200
    assert "".join(generate_text("Hello", 4)) == speech.text(whole)


@every_api
async def test_a_wrong_switch_is_refused_in_the_api_s_words(
    speech: Speech, engine: SimulatedEngine
) -> None:
    body = {**speech.body, **speech.limit(3)}

    status, error = await fetch(engine.url, speech.path, body, {"x-sim-numbered": "perhaps"})

    assert status == 400
    assert "x-sim-numbered" in speech.error(error)


@every_api
async def test_a_route_takes_post_only_and_says_so_in_its_own_words(
    speech: Speech, engine: SimulatedEngine
) -> None:
    async with open_client(engine.url) as client:
        await client.request("GET", speech.path)
        head = await client.response_head()
        error = json.loads(await client.body())

    assert (head.status, head.headers["allow"]) == (405, "POST")
    assert speech.error(error) == f"{speech.path} takes POST only"


@every_api
async def test_a_silent_event_stream_says_that_it_is_alive(speech: Speech) -> None:
    settings = EngineSettings(rate=0, ttft=0.05, keepalive=0.01)
    body = {**speech.body, **speech.limit(3), "stream": True}
    async with (
        open_engine(settings=settings) as engine,
        posted(engine.url, speech.path, body) as client,
    ):
        first = await client.chunk()

    # Lines of JSON have no comments: Ollama is silent until the first of them.
    assert first is not None
    assert first.startswith(b"{") if speech.path.startswith("/api/") else first == b":\n\n"


@pytest.mark.parametrize(
    ("path", "body", "prompt"),
    [
        ("/v1/responses", {"input": "a question", "instructions": "be brief"}, "a question"),
        (
            "/v1/responses",
            {
                "input": [
                    {"role": "user", "content": "first"},
                    {"role": "user", "content": [{"type": "input_text", "text": "last"}]},
                ]
            },
            "last",
        ),
        (
            "/v1/messages",
            {
                "system": "be brief",
                "messages": [
                    {"role": "user", "content": "first"},
                    {"role": "user", "content": [{"type": "text", "text": "last"}]},
                ],
            },
            "last",
        ),
        ("/completion", {"prompt": "a question"}, "a question"),
        ("/api/generate", {"prompt": "a question", "system": "be brief"}, "a question"),
        ("/api/chat", {"messages": [{"role": "user", "content": "a question"}]}, "a question"),
        ("/api/chat", {}, ""),
    ],
)
async def test_a_call_is_told_by_its_prompt(
    path: str, body: dict[str, Any], prompt: str, engine: SimulatedEngine
) -> None:
    await fetch(engine.url, path, {**body, "stream": False})

    async with open_client(engine.url) as client:
        await client.request("GET", "/calls")
        await client.response_head()
        [call] = json.loads(await client.body())
    assert prompt == call["prompt"]


async def test_stats_count_the_calls_of_every_api(engine: SimulatedEngine) -> None:
    for speech in SPEECHES:
        await stream(engine, speech)

    assert (engine.stats.calls, engine.stats.completed) == (len(SPEECHES), len(SPEECHES))


@every_api
async def test_an_answer_names_the_model_that_was_asked_for(
    speech: Speech, engine: SimulatedEngine
) -> None:
    # The NUL is legal in JSON, and the engine cuts its frames at one.
    name = 'a "name"\u2028\0'
    _, named = await fetch(
        engine.url, speech.path, {**speech.body, **speech.limit(3), "model": name, "stream": False}
    )
    _, unnamed = await fetch(
        engine.url, speech.path, {**speech.body, **speech.limit(3), "stream": False}
    )
    body = {**speech.body, **speech.limit(3), "model": name, "stream": True}
    async with posted(engine.url, speech.path, body) as client:
        events = await events_of(client)

    assert (named["model"], unnamed["model"]) == (name, "tiny")
    assert generate_text("Hello", 3) == texts_of(speech, events)
