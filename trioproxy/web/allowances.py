"""What is told to a tenant of its rate, with each answer, in the words of its API.

Sources: OpenAI's guide "Rate limits", "Rate limits in headers"
(https://platform.openai.com/docs/guides/rate-limits), and Anthropic's API reference, "Rate limits",
"Response headers" (https://docs.anthropic.com/en/api/rate-limits).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime

from quart_trio.wrappers import TrioResponse as Response

from trioproxy.gateway import Allowance
from trioproxy.web.caller import NOBODY
from trioproxy.web.connection import current_request
from trioproxy.wire import ANTHROPIC_MESSAGES, error_dialect_for


class Allowances:
    """Marks the answers to tenants who have a limit on requests. What the engine says of its own
    goes no further then: it means the proxy. ``look`` tells what a tenant has left."""

    def __init__(self, look: Callable[[str], Allowance | None]) -> None:
        self._look = look

    async def mark(self, response: Response) -> Response:  # noqa: ASYNC124 - or Quart takes a thread
        """Say what the caller has left."""
        request = current_request()
        if request.caller is NOBODY:
            return response
        allowance = self._look(request.caller.tenant)
        if allowance is not None:
            response.headers.update(_openai(allowance))
            if error_dialect_for(request.path) is ANTHROPIC_MESSAGES:
                response.headers.update(_anthropic(allowance))
        return response


def _openai(allowance: Allowance) -> dict[str, str]:
    return {
        "x-ratelimit-limit-requests": str(allowance.limit),
        "x-ratelimit-remaining-requests": str(allowance.remaining),
        "x-ratelimit-reset-requests": write_duration(allowance.reset),
    }


def _anthropic(allowance: Allowance) -> dict[str, str]:
    reset = datetime.fromtimestamp(math.ceil(time.time() + allowance.reset), UTC)
    return {
        "anthropic-ratelimit-requests-limit": str(allowance.limit),
        "anthropic-ratelimit-requests-remaining": str(allowance.remaining),
        "anthropic-ratelimit-requests-reset": reset.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def write_duration(seconds: float) -> str:
    """As ``300ms``, ``6s``, ``1m0.5s``."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    return (f"{minutes}m" if minutes else "") + f"{rest / 1000:g}s"
