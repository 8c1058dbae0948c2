"""What readers ask of the simulated engine, in the words of each server that is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from benchmarks.readers import request
from benchmarks.transports import websocket_request

MIN_ARRIVAL_SECONDS = 0.25
ARRIVAL_SECONDS = 0.003
"""Per reader. The engine thinks so long before it generates, so that all are there when it does."""


def arrival_seconds(readers: int) -> float:
    """How long so many readers may take to connect."""
    return MIN_ARRIVAL_SECONDS + readers * ARRIVAL_SECONDS


Mode = Literal["replay", "live", "private"]
"""How a proxy that can is to share a call."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What an answer is to be.

    Attributes:
        prompt: what the engine's text is a function of; who shares asks the same.
        tokens, rate, ttft: how many come, how many per second, and the seconds before the first.
        stalls: after half of the tokens the engine is silent.
    """

    prompt: str
    tokens: int
    rate: float
    ttft: float
    mode: Mode
    stalls: bool = False

    @property
    def headers(self) -> Mapping[str, str]:
        """The switches of the engine, which a proxy passes on, and ours."""
        stall = {"x-sim-fail": "stall"} if self.stalls else {}
        switches = {"x-sim-rate": f"{self.rate:g}", "x-sim-ttft": f"{self.ttft:g}"}
        return {"X-Fanout": self.mode, **switches, **stall}


def ask_over_http(question: Question) -> bytes:
    """As every client of the API does."""
    return request(question.prompt, question.tokens, question.headers)


def ask_over_websocket(question: Question) -> bytes:
    """As a client of trioproxy's WebSocket does; the headers are the handshake's."""
    return websocket_request(question.prompt, question.tokens, question.headers)
