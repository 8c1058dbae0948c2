"""What the simulated engine answers, in the shapes of the OpenAI API."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import openai
import pytest
import trio
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.support.rawhttp import open_client, post_stream
from trioproxy.simulator import EngineSettings, SimulatedEngine, generate_text, open_engine

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"

HELLO: dict[str, Any] = {"prompt": "Hello"}
HELLO_CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
async def engine() -> AsyncGenerator[SimulatedEngine]:
    settings = EngineSettings(rate=0, ttft=0, tokens=7, model="tiny")
    async with open_engine(settings=settings) as engine:
        yield engine


async def stream(engine: SimulatedEngine, path: str, body: dict[str, Any]) -> list[Any]:
    """Return the events of a stream, decoded; `[DONE]` must be the last and is left out."""
    async with post_stream(engine.url, path, body | {"stream": True}) as client:
        events: list[bytes] = []
        while (event := await client.next_event()) is not None:
            events.append(event.data)
        assert client.ended_properly
    assert events.pop() == b"[DONE]"
    return [json.loads(event) for event in events]


async def fetch(
    engine: SimulatedEngine, method: str, path: str, body: object = None
) -> tuple[int, Any]:
    async with open_client(engine.url) as client:
        content = b"" if body is None else json.dumps(body).encode()
        await client.request(method, path, body=content)
        head = await client.response_head()
        return head.status, json.loads(await client.body())


async def test_a_completion_streams_one_token_per_event(engine: SimulatedEngine) -> None:
    events = await stream(engine, COMPLETIONS, HELLO | {"max_tokens": 20})

    *tokens, last = [event["choices"] for event in events]
    assert generate_text("Hello", 20) == [choice["text"] for [choice] in tokens]
    assert last == [{"index": 0, "text": "", "logprobs": None, "finish_reason": "length"}]
    assert all(choice["finish_reason"] is None for [choice] in tokens)


async def test_a_chat_streams_its_role_then_its_tokens_then_its_end(
    engine: SimulatedEngine,
) -> None:
    events = await stream(engine, CHAT, HELLO_CHAT | {"max_completion_tokens": 20})

    role, *tokens, last = [event["choices"] for event in events]
    assert [choice["delta"] for choice in role] == [{"role": "assistant", "content": ""}]
    assert generate_text("Hello", 20) == [choice["delta"]["content"] for [choice] in tokens]
    assert [(choice["delta"], choice["finish_reason"]) for choice in last] == [({}, "length")]


@pytest.mark.parametrize(
    ("path", "body", "tokens"),
    [
        (COMPLETIONS, HELLO, 7),
        (COMPLETIONS, HELLO | {"max_tokens": None}, 7),
        (COMPLETIONS, HELLO | {"max_tokens": 1}, 1),
        (COMPLETIONS, HELLO | {"max_tokens": 200}, 200),
        (CHAT, HELLO_CHAT | {"max_tokens": 3}, 3),
        (CHAT, HELLO_CHAT | {"max_tokens": 3, "max_completion_tokens": 4}, 4),
    ],
)
async def test_an_answer_has_exactly_the_tokens_asked_for(
    path: str, body: dict[str, Any], tokens: int, engine: SimulatedEngine
) -> None:
    overhead = 2 if path == CHAT else 1

    events = await stream(engine, path, body)
    _, whole = await fetch(engine, "POST", path, body)

    assert tokens == len(events) - overhead
    assert tokens == whole["usage"]["completion_tokens"]


@pytest.mark.parametrize(
    ("path", "body", "prompt"),
    [
        (COMPLETIONS, {"prompt": ""}, ""),
        (COMPLETIONS, {"prompt": ["one", " two"]}, "one two"),
        (COMPLETIONS, {"prompt": [15496, 11]}, " 15496 11"),
        (COMPLETIONS, {"prompt": "x", "temperature": 1, "stop": ["\n"], "unknown": {}}, "x"),
        (CHAT, {"messages": [{"role": "system", "content": "a"}, {"role": "user"}]}, "a\n"),
        (
            CHAT,
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "水"}]}]},
            "水",
        ),
    ],
)
async def test_the_text_follows_from_the_prompt(
    path: str, body: dict[str, Any], prompt: str, engine: SimulatedEngine
) -> None:
    _, answer = await fetch(engine, "POST", path, body)

    [choice] = answer["choices"]
    text = choice["message"]["content"] if path == CHAT else choice["text"]
    assert "".join(generate_text(prompt, 7)) == text


async def test_several_choices_interleave_and_each_has_its_own_seed(
    engine: SimulatedEngine,
) -> None:
    events = await stream(engine, COMPLETIONS, HELLO | {"n": 3, "seed": 5, "max_tokens": 4})

    choices = [choice for event in events for choice in event["choices"]]
    assert [choice["index"] for choice in choices] == [0, 1, 2] * 5
    for index in range(3):
        text = [choice["text"] for choice in choices[:12] if choice["index"] == index]
        assert generate_text("Hello", 4, seed=5 + index) == text


async def test_a_whole_answer_has_the_text_of_every_choice(engine: SimulatedEngine) -> None:
    _, answer = await fetch(engine, "POST", CHAT, HELLO_CHAT | {"n": 2})

    texts = [choice["message"]["content"] for choice in answer["choices"]]
    assert ["".join(generate_text("Hello", 7, seed)) for seed in (0, 1)] == texts


@pytest.mark.parametrize(("path", "body"), [(COMPLETIONS, HELLO), (CHAT, HELLO_CHAT)])
async def test_usage_comes_last_if_asked_for_and_is_null_before(
    path: str, body: dict[str, Any], engine: SimulatedEngine
) -> None:
    options = {"n": 2, "stream_options": {"include_usage": True}}

    *others, last = await stream(engine, path, body | options)

    assert last["usage"] == {"prompt_tokens": 1, "completion_tokens": 14, "total_tokens": 15}
    assert last["choices"] == []
    assert all(event["usage"] is None for event in others)


async def test_usage_is_absent_unless_asked_for(engine: SimulatedEngine) -> None:
    events = await stream(engine, COMPLETIONS, HELLO)

    assert not any("usage" in event for event in events)


@pytest.mark.parametrize(
    ("path", "body", "chunk_type", "whole_type"),
    [
        (COMPLETIONS, HELLO, Completion, Completion),
        (CHAT, HELLO_CHAT, ChatCompletionChunk, ChatCompletion),
    ],
)
async def test_every_event_validates_as_the_sdk_s_type(
    path: str, body: dict[str, Any], chunk_type: Any, whole_type: Any, engine: SimulatedEngine
) -> None:
    options = {"n": 2, "stream_options": {"include_usage": True}}

    events = await stream(engine, path, body | options)
    _, whole = await fetch(engine, "POST", path, body)

    # The SDK's Completion demands a finish_reason that the API leaves null until the end.
    for event in events:
        if chunk_type is Completion:
            for choice in event["choices"]:
                choice["finish_reason"] = choice["finish_reason"] or "stop"
        chunk_type.model_validate(event, strict=True)
    whole_type.model_validate(whole, strict=True)


async def test_the_official_sdk_reads_both_streams_and_both_answers(
    engine: SimulatedEngine,
) -> None:
    def talk() -> list[str]:
        with openai.OpenAI(
            base_url=f"{engine.url}/v1",
            api_key="any",
            max_retries=0,
            http_client=openai.DefaultHttpxClient(trust_env=False),
        ) as client:
            completions, chats = client.completions, client.chat.completions
            messages: Any = HELLO_CHAT["messages"]
            pieces = [
                chunk.choices[0].delta.content or ""
                for chunk in chats.create(model="m", messages=messages, stream=True)
            ]
            texts = [
                chunk.choices[0].text
                for chunk in completions.create(model="m", prompt="Hello", stream=True)
            ]
            return [
                "".join(pieces),
                "".join(texts),
                chats.create(model="m", messages=messages).choices[0].message.content or "",
                completions.create(model="m", prompt="Hello").choices[0].text,
            ]

    answers = await trio.to_thread.run_sync(talk)

    assert ["".join(generate_text("Hello", 7))] * 4 == answers


@pytest.mark.parametrize(
    ("named", "answered"), [(None, "tiny"), ('a "name"\u2028', 'a "name"\u2028')]
)
async def test_an_answer_names_the_model_that_was_asked_for(
    named: str | None, answered: str, engine: SimulatedEngine
) -> None:
    events = await stream(engine, COMPLETIONS, HELLO | {"model": named})

    assert {answered} == {event["model"] for event in events}
    assert len({event["id"] for event in events}) == 1


async def test_the_model_is_listed(engine: SimulatedEngine) -> None:
    status, models = await fetch(engine, "GET", "/v1/models")

    assert status == 200
    assert [model["id"] for model in models["data"]] == ["tiny"]


async def test_it_is_healthy(engine: SimulatedEngine) -> None:
    assert await fetch(engine, "GET", "/health") == (200, {"status": "ok"})


async def test_stats_count_generation_calls_only(engine: SimulatedEngine) -> None:
    await fetch(engine, "GET", "/health")
    await fetch(engine, "POST", COMPLETIONS, HELLO)
    await fetch(engine, "POST", COMPLETIONS, {})

    status, stats = await fetch(engine, "GET", "/stats")

    assert status == 200
    assert stats == {
        "calls": 2,
        "active": 0,
        "completed": 1,
        "aborted": 0,
        "last_abort_unix_ns": 0,
    }
