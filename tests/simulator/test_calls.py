"""The engine's record of generation calls, as `/calls` tells it."""

import json
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import trio

from tests.support.rawhttp import open_client, post_stream
from trioproxy.simulator import Call, EngineSettings, Outcome, SimulatedEngine, open_engine

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"
ENDLESS = {"prompt": "endless", "max_tokens": 1_000_000, "stream": True}


@pytest.fixture
async def engine() -> AsyncGenerator[SimulatedEngine]:
    async with open_engine(settings=EngineSettings(rate=200, ttft=0, tokens=3)) as engine:
        yield engine


async def fetch(
    engine: SimulatedEngine, method: str, path: str, body: object = None, **headers: str
) -> Any:
    """Make a call of its own connection and return its answer, decoded."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    async with open_client(engine.url) as client:
        content = b"" if body is None else json.dumps(body).encode()
        await client.request(method, path, headers=fields, body=content)
        await client.response_head()
        return json.loads(await client.body())


@pytest.mark.parametrize(
    ("path", "body", "prompt"),
    [
        (COMPLETIONS, {"prompt": "a question"}, "a question"),
        (COMPLETIONS, {"prompt": ["one", " two"]}, "one two"),
        (COMPLETIONS, {"prompt": "refused", "max_tokens": 0}, ""),
        (COMPLETIONS, {}, ""),
        (CHAT, {"messages": [{"role": "user", "content": "a question"}]}, "a question"),
        (
            CHAT,
            {
                "messages": [
                    {"role": "system", "content": "be brief"},
                    {"role": "user", "content": [{"type": "text", "text": "the last"}]},
                ]
            },
            "the last",
        ),
        (CHAT, {"messages": []}, ""),
    ],
)
async def test_a_call_is_told_by_its_prompt(
    path: str, body: dict[str, Any], prompt: str, engine: SimulatedEngine
) -> None:
    await fetch(engine, "POST", path, body)

    [call] = await fetch(engine, "GET", "/calls")
    assert prompt == call["prompt"]


@pytest.mark.parametrize(
    ("headers", "outcome"),
    [
        ({}, "completed"),
        ({"x_sim_fail": "mid"}, "failed"),
        ({"x_sim_fail": "before"}, "refused"),
    ],
)
async def test_a_call_is_told_with_its_outcome_and_when_it_began_and_ended(
    headers: dict[str, str], outcome: str, engine: SimulatedEngine
) -> None:
    before = time.time_ns()
    await fetch(engine, "POST", COMPLETIONS, {"prompt": "a"}, **headers)
    after = time.time_ns()

    [call] = await fetch(engine, "GET", "/calls")
    assert outcome == call["outcome"]
    assert before <= call["began_unix_ns"] <= call["ended_unix_ns"] <= after


async def test_a_call_is_active_until_its_client_leaves(engine: SimulatedEngine) -> None:
    async with post_stream(engine.url, COMPLETIONS, ENDLESS):
        [running] = await fetch(engine, "GET", "/calls")
        left_at = time.time_ns()
    with trio.fail_after(1):
        await engine.wait_until(lambda stats: stats.aborted == 1)

    [left] = await fetch(engine, "GET", "/calls")
    assert (running["outcome"], running["ended_unix_ns"]) == ("active", None)
    assert left["outcome"] == "aborted"
    assert 0 <= left["ended_unix_ns"] - left_at < 100_000_000


async def test_calls_are_told_oldest_first(engine: SimulatedEngine) -> None:
    for prompt in ("a", "b", "c"):
        await fetch(engine, "POST", COMPLETIONS, {"prompt": prompt})

    calls = await fetch(engine, "GET", "/calls")
    assert [call["prompt"] for call in calls] == ["a", "b", "c"]


async def test_forgetting_keeps_the_active_calls_and_the_counts(engine: SimulatedEngine) -> None:
    await fetch(engine, "POST", COMPLETIONS, {"prompt": "first"})
    async with post_stream(engine.url, COMPLETIONS, ENDLESS):
        await fetch(engine, "POST", COMPLETIONS, {"prompt": "second"})

        answer = await fetch(engine, "DELETE", "/calls")

        assert answer == {"forgotten": 2}
        calls = await fetch(engine, "GET", "/calls")
        assert [call["prompt"] for call in calls] == ["endless"]
        assert (engine.stats.calls, engine.stats.active, engine.stats.completed) == (3, 1, 2)


async def test_a_forgotten_call_makes_room_in_the_record() -> None:
    engine = SimulatedEngine("http://x", EngineSettings())
    large = bytes(16 << 20)  # four of them are what the record holds

    for _ in range(3):
        call = Call("POST", COMPLETIONS, "", {}, large, started=0)
        engine.begin(call)
        engine.end(call, Outcome.COMPLETED)
    engine.forget_ended()
    for _ in range(4):
        engine.begin(Call("POST", COMPLETIONS, "", {}, large, started=0))

    assert len(engine.calls) == 4


async def test_the_record_can_be_read_and_forgotten_only(engine: SimulatedEngine) -> None:
    async with open_client(engine.url) as client:
        await client.request("POST", "/calls")
        head = await client.response_head()

    assert (head.status, head.headers["allow"]) == (405, "GET, DELETE")
    assert engine.stats.calls == 0
