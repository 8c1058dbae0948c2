"""The official SDKs, as clients of LiteLLM or of a proxy that comes to it."""

from __future__ import annotations

from typing import Any

import anthropic
import openai

from tests.gateways.standing import MASTER_KEY
from tests.simulator.speech import USER_SAYS_HELLO
from trioproxy.simulator import generate_text

Headers = dict[str, str]

TOKENS = 12
TEXT = "".join(generate_text("Hello", TOKENS))
HALF = "".join(generate_text("Hello", TOKENS // 2))
SIZED = {"x-sim-tokens": str(TOKENS)}
MESSAGES: Any = USER_SAYS_HELLO


def stream_chat(url: str, model: str, headers: Headers, texts: list[str]) -> int:
    """Stream a chat completion. Appends to `texts` what it says; the tokens of its usage."""
    with openai.OpenAI(
        base_url=f"{url}/v1",
        api_key=MASTER_KEY,
        max_retries=0,
        default_headers=headers,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    ) as client:
        usage = None
        for chunk in client.chat.completions.create(
            model=model, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        ):
            texts.extend(choice.delta.content or "" for choice in chunk.choices)
            usage = chunk.usage
        assert usage is not None, "the usage comes last"
        return usage.completion_tokens


def stream_message(url: str, model: str, headers: Headers, texts: list[str]) -> int:
    """Stream a message, in the same way."""
    with (
        anthropic.Anthropic(
            base_url=url,
            api_key=MASTER_KEY,
            max_retries=0,
            default_headers=headers,
            http_client=anthropic.DefaultHttpxClient(trust_env=False),
        ) as client,
        client.messages.stream(model=model, max_tokens=TOKENS, messages=MESSAGES) as stream,
    ):
        texts.extend(stream.text_stream)
        message = stream.get_final_message()
        assert message.stop_reason == "max_tokens"
        return message.usage.output_tokens
