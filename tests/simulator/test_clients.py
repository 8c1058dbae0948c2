"""The official clients read what the engine says, streamed and whole, and raise what is theirs."""

from collections.abc import AsyncGenerator
from typing import Any

import anthropic
import ollama
import openai
import pytest
import trio

from tests.simulator.speech import USER_SAYS_HELLO
from trioproxy.simulator import EngineSettings, SimulatedEngine, generate_text, open_engine

Headers = dict[str, str]

TOKENS = 12
TEXT = "".join(generate_text("Hello", TOKENS))
HALF = "".join(generate_text("Hello", TOKENS // 2))
FAILED = "a failure that the request asked for"
MESSAGES: Any = USER_SAYS_HELLO


@pytest.fixture
async def engine() -> AsyncGenerator[SimulatedEngine]:
    async with open_engine(settings=EngineSettings(rate=0, ttft=0, tokens=TOKENS)) as engine:
        yield engine


class OpenAIResponses:
    """`responses.create` of openai: its events as they come."""

    error = openai.APIError
    refusal = openai.RateLimitError

    @staticmethod
    def stream(url: str, headers: Headers, texts: list[str]) -> None:
        with _openai(url, headers) as client:
            events = client.responses.create(model="m", input="Hello", stream=True)
            texts.extend(
                event.delta for event in events if event.type == "response.output_text.delta"
            )

    @staticmethod
    def whole(url: str, headers: Headers) -> str:
        with _openai(url, headers) as client:
            return client.responses.create(model="m", input="Hello").output_text


class OpenAIResponsesHelper(OpenAIResponses):
    """`responses.stream` of openai, which keeps a snapshot and checks it against each event."""

    @staticmethod
    def stream(url: str, headers: Headers, texts: list[str]) -> None:
        with (
            _openai(url, headers) as client,
            client.responses.stream(model="m", input="Hello") as stream,
        ):
            texts.extend(
                event.delta for event in stream if event.type == "response.output_text.delta"
            )
            assert stream.get_final_response().output_text == "".join(texts)


class AnthropicMessages:
    """`messages` of anthropic."""

    error = anthropic.APIStatusError
    refusal = anthropic.RateLimitError

    @staticmethod
    def stream(url: str, headers: Headers, texts: list[str]) -> None:
        with (
            _anthropic(url, headers) as client,
            client.messages.stream(model="m", max_tokens=TOKENS, messages=MESSAGES) as stream,
        ):
            texts.extend(stream.text_stream)
            message = stream.get_final_message()
            assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", TOKENS)

    @staticmethod
    def whole(url: str, headers: Headers) -> str:
        with _anthropic(url, headers) as client:
            message = client.messages.create(model="m", max_tokens=TOKENS, messages=MESSAGES)
            [block] = message.content
            assert block.type == "text"
            return block.text


class OllamaGenerate:
    """`generate` of ollama."""

    error = ollama.ResponseError
    refusal = ollama.ResponseError

    @staticmethod
    def stream(url: str, headers: Headers, texts: list[str]) -> None:
        with _ollama(url, headers) as client:
            for line in client.generate("m", "Hello", stream=True):
                texts.append(line.response)
            assert (line.done, line.done_reason, line.eval_count) == (True, "length", TOKENS)

    @staticmethod
    def whole(url: str, headers: Headers) -> str:
        with _ollama(url, headers) as client:
            return client.generate("m", "Hello").response


class OllamaChat(OllamaGenerate):
    """`chat` of ollama."""

    @staticmethod
    def stream(url: str, headers: Headers, texts: list[str]) -> None:
        with _ollama(url, headers) as client:
            for line in client.chat("m", MESSAGES, stream=True):
                texts.append(line.message.content or "")
            assert (line.done, line.done_reason, line.eval_count) == (True, "length", TOKENS)

    @staticmethod
    def whole(url: str, headers: Headers) -> str:
        with _ollama(url, headers) as client:
            return client.chat("m", MESSAGES).message.content or ""


CLIENTS: Any = [
    OpenAIResponses,
    OpenAIResponsesHelper,
    AnthropicMessages,
    OllamaGenerate,
    OllamaChat,
]

every_client = pytest.mark.parametrize("client", CLIENTS)


def _openai(url: str, headers: Headers) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{url}/v1",
        api_key="any",
        max_retries=0,
        default_headers=headers,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )


def _anthropic(url: str, headers: Headers) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=url,
        api_key="any",
        max_retries=0,
        default_headers=headers,
        http_client=anthropic.DefaultHttpxClient(trust_env=False),
    )


def _ollama(url: str, headers: Headers) -> ollama.Client:
    return ollama.Client(url, headers=headers, trust_env=False)


@every_client
async def test_a_client_reads_the_same_text_streamed_and_whole(
    client: Any, engine: SimulatedEngine
) -> None:
    texts: list[str] = []

    await trio.to_thread.run_sync(client.stream, engine.url, {}, texts)
    whole = await trio.to_thread.run_sync(client.whole, engine.url, {})

    assert "".join(texts) == TEXT
    assert whole == TEXT
    assert engine.stats.completed == 2


@every_client
async def test_a_client_raises_its_own_error_for_a_failure_in_the_middle(
    client: Any, engine: SimulatedEngine
) -> None:
    texts: list[str] = []

    with pytest.raises(client.error, match=FAILED):
        await trio.to_thread.run_sync(client.stream, engine.url, {"x-sim-fail": "mid"}, texts)

    assert "".join(texts) == HALF


@every_client
async def test_a_client_raises_its_own_error_for_a_refusal(
    client: Any, engine: SimulatedEngine
) -> None:
    headers = {"x-sim-status": "429"}

    with pytest.raises(client.refusal, match=FAILED):
        await trio.to_thread.run_sync(client.stream, engine.url, headers, [])
    with pytest.raises(client.refusal, match=FAILED):
        await trio.to_thread.run_sync(client.whole, engine.url, headers)


async def test_ollama_s_client_lists_the_model(engine: SimulatedEngine) -> None:
    def names() -> list[str | None]:
        with _ollama(engine.url, {}) as client:
            return [model.model for model in client.list().models]

    assert await trio.to_thread.run_sync(names) == [engine.settings.model]
