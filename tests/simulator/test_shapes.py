"""What is particular to an API of the engine: its events in their order, and their fields."""

import datetime
import json
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.simulator.speech import USER_SAYS_HELLO, events_of, fetch, posted
from tests.support.rawhttp import open_client
from trioproxy import __version__
from trioproxy.simulator import EngineSettings, SimulatedEngine, generate_text, open_engine

RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
COMPLETION = "/completion"
GENERATE = "/api/generate"
CHAT = "/api/chat"

TEXT = "".join(generate_text("Hello", 3))


@pytest.fixture
async def engine() -> AsyncGenerator[SimulatedEngine]:
    settings = EngineSettings(rate=0, ttft=0, tokens=3, model="tiny")
    async with open_engine(settings=settings) as engine:
        yield engine


async def stream(
    engine: SimulatedEngine, path: str, body: dict[str, Any], **switches: str
) -> list[Any]:
    headers = {name.replace("_", "-"): value for name, value in switches.items()}
    async with posted(engine.url, path, body | {"stream": True}, headers) as client:
        return await events_of(client)


async def get(engine: SimulatedEngine, path: str) -> Any:
    async with open_client(engine.url) as client:
        await client.request("GET", path)
        await client.response_head()
        return json.loads(await client.body())


async def test_the_events_of_a_response_come_in_openai_s_order(engine: SimulatedEngine) -> None:
    events = await stream(engine, RESPONSES, {"input": "Hello"})

    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    created, done = events[0]["response"], events[-1]["response"]
    assert (created["status"], created["output"], created["usage"]) == ("in_progress", [], None)
    assert (done["status"], done["id"], done["model"]) == ("completed", created["id"], "tiny")
    [item] = done["output"]
    assert item == events[-2]["item"]
    assert (events[-4]["text"], events[-3]["part"]) == (TEXT, item["content"][0])
    assert {event["item_id"] for event in events if "item_id" in event} == {item["id"]}


@pytest.mark.parametrize("tokens", [1, 2, 150])
@pytest.mark.parametrize("failure", [{}, {"x_sim_fail": "mid"}], ids=["to the end", "mid"])
async def test_the_events_of_a_response_are_numbered_densely_from_0(
    tokens: int, failure: dict[str, str], engine: SimulatedEngine
) -> None:
    body = {"input": "Hello", "max_output_tokens": tokens}

    events = await stream(engine, RESPONSES, body, **failure)

    assert [event["sequence_number"] for event in events] == [*range(len(events))]


@pytest.mark.parametrize("failure", [{}, {"x_sim_fail": "mid"}], ids=["to the end", "mid"])
async def test_the_events_of_a_response_are_not_numbered_where_the_switch_says_so(
    failure: dict[str, str], engine: SimulatedEngine
) -> None:
    events = await stream(engine, RESPONSES, {"input": "Hello"}, x_sim_numbered="false", **failure)

    assert len(events) > 4
    assert not any("sequence_number" in event for event in events)


async def test_a_response_and_its_events_validate_as_the_sdk_s_types(
    engine: SimulatedEngine,
) -> None:
    body = {"input": "Hello"}
    event_type: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)

    for event in await stream(engine, RESPONSES, body):
        event_type.validate_python(event, strict=True)
    for event in await stream(engine, RESPONSES, body, x_sim_fail="mid"):
        event_type.validate_python(event, strict=True)
    _, whole = await fetch(engine.url, RESPONSES, body)
    Response.model_validate(whole, strict=True)


async def test_a_response_tells_its_usage(engine: SimulatedEngine) -> None:
    events = await stream(engine, RESPONSES, {"input": "two words"})
    _, whole = await fetch(engine.url, RESPONSES, {"input": "two words"})

    usage = events[-1]["response"]["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (2, 3, 5)
    assert usage == whole["usage"]


async def test_the_events_of_a_message_come_in_anthropic_s_order(engine: SimulatedEngine) -> None:
    body = {"messages": USER_SAYS_HELLO, "max_tokens": 2}

    start, *events = await stream(engine, MESSAGES, body)

    first, second = generate_text("Hello", 2)
    assert start["type"] == "message_start"
    assert start["message"]["id"].startswith("msg_")
    assert start["message"]["usage"]["input_tokens"] == 1
    assert (start["message"]["content"], start["message"]["stop_reason"]) == ([], None)
    assert events == [
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        },
        {"type": "ping"},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": first},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": second},
        },
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "max_tokens", "stop_sequence": None},
            "usage": {"output_tokens": 2},
        },
        {"type": "message_stop"},
    ]


async def test_a_whole_message_tells_why_it_ended_and_its_usage(engine: SimulatedEngine) -> None:
    body = {"messages": USER_SAYS_HELLO, "max_tokens": 2}

    _, message = await fetch(engine.url, MESSAGES, body)

    assert message["content"] == [{"type": "text", "text": "".join(generate_text("Hello", 2))}]
    assert (message["type"], message["role"]) == ("message", "assistant")
    assert message["stop_reason"] == "max_tokens"
    assert (message["usage"]["input_tokens"], message["usage"]["output_tokens"]) == (1, 2)


async def test_llama_cpp_s_events_count_their_tokens(engine: SimulatedEngine) -> None:
    *tokens, end = await stream(engine, COMPLETION, {"prompt": "Hello there"})

    assert tokens == [
        {
            "index": 0,
            "content": text,
            "tokens": [],
            "stop": False,
            "id_slot": -1,
            "tokens_predicted": number,
            "tokens_evaluated": 2,
        }
        for number, text in enumerate(generate_text("Hello there", 3), 1)
    ]
    assert (end["content"], end["stop"], end["stop_type"]) == ("", True, "limit")
    assert (end["tokens_predicted"], end["tokens_evaluated"]) == (3, 2)


async def test_llama_cpp_s_timings_are_those_of_the_schedule(engine: SimulatedEngine) -> None:
    headers = {"x-sim-ttft": "0.01", "x-sim-rate": "200"}

    _, answer = await fetch(engine.url, COMPLETION, {"prompt": "Hello there"}, headers)

    assert answer["timings"] == pytest.approx(
        {
            "cache_n": 0,
            "prompt_n": 2,
            "prompt_ms": 10,
            "prompt_per_token_ms": 5,
            "prompt_per_second": 200,
            "predicted_n": 3,
            "predicted_ms": 10,
            "predicted_per_token_ms": 10 / 3,
            "predicted_per_second": 300,
        }
    )


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (GENERATE, {"prompt": "Hello"}, lambda text: {"response": text}),
        (
            CHAT,
            {"messages": USER_SAYS_HELLO},
            lambda text: {"message": {"role": "assistant", "content": text}},
        ),
    ],
)
async def test_ollama_s_lines_have_the_time_and_a_text_and_the_last_has_the_durations(
    path: str, body: dict[str, Any], said: Any, engine: SimulatedEngine
) -> None:
    before = time.time()
    *lines, last = await stream(engine, path, body, x_sim_ttft="0.01", x_sim_rate="200")
    after = time.time()

    times = [_unix_time(line.pop("created_at")) for line in [*lines, last]]
    # A time is read to the microsecond, and cut.
    assert [before - 1e-5, *times, after] == sorted([before - 1e-5, *times, after])
    assert times[2] - times[0] > 0.005
    assert lines == [
        {"model": "tiny", **said(text), "done": False} for text in generate_text("Hello", 3)
    ]
    assert last == {
        "model": "tiny",
        **said(""),
        "done": True,
        "done_reason": "length",
        "total_duration": 20_000_000,
        "load_duration": 0,
        "prompt_eval_count": 1,
        "prompt_eval_duration": 10_000_000,
        "eval_count": 3,
        "eval_duration": 10_000_000,
    }


def _unix_time(text: str) -> float:
    moment = datetime.datetime.fromisoformat(text)
    assert moment.tzinfo == datetime.UTC
    return moment.timestamp()


async def test_a_duration_is_never_zero_as_clients_divide_by_it(engine: SimulatedEngine) -> None:
    _, answer = await fetch(engine.url, GENERATE, {"prompt": "Hello", "stream": False})

    assert (answer["prompt_eval_duration"], answer["eval_duration"]) == (1, 1)


async def test_ollama_s_clients_find_the_model_and_a_version(engine: SimulatedEngine) -> None:
    tags = await get(engine, "/api/tags")

    assert [model["name"] for model in tags["models"]] == ["tiny"]
    assert await get(engine, "/api/version") == {"version": __version__}
    assert engine.stats.calls == 0
