"""The APIs that the engine speaks, by the route of each.

They are written from the APIs' own references and captures, and share nothing with the proxy's
dialects: what the proxy makes of an engine is judged by them.
"""

from collections.abc import Mapping

import msgspec

from trioproxy.simulator.apis import anthropic, llamacpp, ollama, openai, responses
from trioproxy.simulator.apis.protocol import Api
from trioproxy.simulator.refusal import Failure

APIS: Mapping[str, Api] = {
    "/v1/completions": openai.COMPLETIONS,
    "/v1/chat/completions": openai.CHAT_COMPLETIONS,
    "/v1/responses": responses.RESPONSES,
    "/v1/messages": anthropic.MESSAGES,
    "/completion": llamacpp.COMPLETION,
    "/api/generate": ollama.GENERATE,
    "/api/chat": ollama.CHAT,
}


def error_body(failure: Failure, path: str | None = None) -> bytes:
    """Return the JSON that tells a failure in the words of the path's API.

    Where no API is, it is told in OpenAI's.
    """
    api = APIS.get(path or "", openai.COMPLETIONS)
    return msgspec.json.encode(api.error(failure))
