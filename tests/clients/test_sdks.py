"""The official SDKs for JavaScript: they notice no difference but in the headers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.nodejs import Node
from tests.clients.relay import open_relay
from tests.web.service import open_simulated
from trioproxy.simulator import generate_text

PROMPT = "Hello"
TOKENS = 64
TEXT = "".join(generate_text(PROMPT, TOKENS))
HALF = "".join(generate_text(PROMPT, TOKENS // 2))
SIZED = {"x-sim-tokens": str(TOKENS)}

FAILURES = {
    "mid": "a failure that the request asked for",
    "truncate": "the upstream's stream ended before it was complete",
    "cut": "the upstream's answer broke off",
}
"""How the engine fails half-way, and what the proxy says of it."""

OWN_ERRORS = {
    "completions": "OpenAIError",
    "chat": "OpenAIError",
    "responses": "OpenAIError",
    "messages": "AnthropicError",
}
"""Each API of an SDK, and the class of all errors of that SDK."""


async def stream(node: Node, api: str, url: str, *headers: dict[str, str]) -> list[dict[str, Any]]:
    """What a program reads that calls the SDK once for each of the headers."""
    return await node.run("stream", api=api, url=url, prompt=PROMPT, headers=headers)


@pytest.mark.parametrize("api", OWN_ERRORS)
async def test_the_sdk_streams_the_same_text_as_from_the_engine_itself(
    node: Node, api: str
) -> None:
    async with open_simulated() as service:
        direct = await stream(node, api, service.engine.url, SIZED)
        through = await stream(node, api, service.url, SIZED, SIZED | {"x-timing": "1"})

    assert direct == [{"text": TEXT, "error": None}]
    assert through == 2 * direct


@pytest.mark.parametrize("api", OWN_ERRORS)
async def test_the_sdk_raises_its_own_error_for_a_stream_that_fails_half_way(
    node: Node, api: str
) -> None:
    async with open_simulated() as service:
        failing = [SIZED | {"x-sim-fail": fail} for fail in FAILURES]
        results = await stream(node, api, service.url, *failing)

    for result, message in zip(results, FAILURES.values(), strict=True):
        assert result["text"] == HALF
        assert {"APIError", OWN_ERRORS[api]} <= set(result["error"]["classes"])
        assert message in result["error"]["message"]


# openai lets the error of fetch through as it is.
@pytest.mark.parametrize(("api", "error"), [("chat", "TypeError"), ("messages", "AnthropicError")])
async def test_the_sdk_that_lost_its_connection_asks_again_by_key_for_the_same_call(
    node: Node, api: str, error: str
) -> None:
    keyed = {
        "x-generation-key": "mine",
        "x-linger": "30",
        "x-sim-tokens": "200",
        "x-sim-rate": "100",
    }
    text = "".join(generate_text(PROMPT, 200))
    async with (
        open_simulated() as service,
        open_relay(service.url, cuts=1, longest_run=20) as relay,
    ):
        first, second = await stream(node, api, relay.url, keyed, keyed)

    assert first["text"]
    assert text.startswith(first["text"])
    assert (first["error"]["classes"][0], first["error"]["message"]) == (error, "terminated")
    assert second == {"text": text, "error": None}
    assert service.engine.stats.calls == 1


async def test_a_response_in_the_background_is_taken_up_again_at_a_number(node: Node) -> None:
    async with open_simulated() as service:
        result = await node.run(
            "background",
            scene="leaveAndComeBack",
            url=service.url,
            headers=SIZED | {"x-sim-rate": "200"},
            prompt=PROMPT,
            events=20,
        )

    assert result["numbers"] == list(range(len(result["numbers"])))
    assert (result["text"], result["status"], result["output"]) == (TEXT, "completed", TEXT)
    assert service.engine.stats.calls == 1


async def test_a_response_in_the_background_is_stopped_and_so_is_the_engine(node: Node) -> None:
    async with open_simulated() as service:
        statuses = await node.run(
            "background",
            scene="stop",
            url=service.url,
            headers={"x-sim-tokens": "100000", "x-sim-rate": "100"},
            prompt=PROMPT,
        )
        await service.wait_aborted(1)

    assert statuses == ["in_progress", "cancelled", "cancelled"]
