"""The official clients, each with one way to stream and one to ask for the whole."""

from __future__ import annotations

from typing import Any

import anthropic
import ollama
import openai

from tests.simulator.speech import USER_SAYS_HELLO

Headers = dict[str, str]

TOKENS = 12
"""What they ask for where the API wants to be told."""

MESSAGES: Any = USER_SAYS_HELLO


class OpenAICompletions:
    """`completions.create` of openai."""

    error = openai.APIError
    refusal = openai.RateLimitError

    @staticmethod
    def stream(url: str, headers: Headers, texts: list[str]) -> None:
        with _openai(url, headers) as client:
            chunks = client.completions.create(model="m", prompt="Hello", stream=True)
            texts.extend(chunk.choices[0].text for chunk in chunks)

    @staticmethod
    def whole(url: str, headers: Headers) -> str:
        with _openai(url, headers) as client:
            answer = client.completions.create(model="m", prompt="Hello", stream=False)
            return answer.choices[0].text


class OpenAIChat:
    """`chat.completions.create` of openai."""

    error = openai.APIError
    refusal = openai.RateLimitError

    @staticmethod
    def stream(url: str, headers: Headers, texts: list[str]) -> None:
        with _openai(url, headers) as client:
            chunks = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            texts.extend(chunk.choices[0].delta.content or "" for chunk in chunks)

    @staticmethod
    def whole(url: str, headers: Headers) -> str:
        with _openai(url, headers) as client:
            answer = client.chat.completions.create(model="m", messages=MESSAGES, stream=False)
            return answer.choices[0].message.content or ""


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
        with open_ollama(url, headers) as client:
            for line in client.generate("m", "Hello", stream=True):
                texts.append(line.response)
            assert (line.done, line.done_reason, line.eval_count) == (True, "length", TOKENS)

    @staticmethod
    def whole(url: str, headers: Headers) -> str:
        with open_ollama(url, headers) as client:
            return client.generate("m", "Hello").response


class OllamaChat(OllamaGenerate):
    """`chat` of ollama."""

    @staticmethod
    def stream(url: str, headers: Headers, texts: list[str]) -> None:
        with open_ollama(url, headers) as client:
            for line in client.chat("m", MESSAGES, stream=True):
                texts.append(line.message.content or "")
            assert (line.done, line.done_reason, line.eval_count) == (True, "length", TOKENS)

    @staticmethod
    def whole(url: str, headers: Headers) -> str:
        with open_ollama(url, headers) as client:
            return client.chat("m", MESSAGES).message.content or ""


CLIENTS: Any = [
    OpenAICompletions,
    OpenAIChat,
    OpenAIResponses,
    OpenAIResponsesHelper,
    AnthropicMessages,
    OllamaGenerate,
    OllamaChat,
]
"""All of them: `stream(url, headers, texts)` appends what it reads to `texts`, and
`whole(url, headers)` returns it; `error` is what each raises for a failure, `refusal` for a 429."""


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


def open_ollama(url: str, headers: Headers) -> ollama.Client:
    """Ollama's client, to be used as a context manager."""
    return ollama.Client(url, headers=headers, trust_env=False)
