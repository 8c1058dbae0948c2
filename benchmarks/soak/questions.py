"""What readers ask the engine, and what it must answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Literal

from trioproxy.simulator import generate_text

Fault = Literal["before", "mid", "truncate", "cut"]

COMPLETED = "completed"
TOLD = "told by the engine"
CANCELLED = "cancelled"
BROKEN_ENDINGS: dict[Fault, str] = {
    "mid": TOLD,
    "truncate": "upstream_truncated",
    "cut": "upstream_broken",
}
"""How the proxy tells of each failure in the middle: by the engine's own event, or by this code."""

MODEL = "simulated"
MAX_SECONDS = 12.0
"""Of an answer, from its first token to its last."""
MAX_TOKENS = 60
"""Of an answer. A few large ones among many small would make what the proxy holds go up and down,
and its memory with it, where nothing leaks."""

_RATES = (5.0, 10.0, 10.0, 20.0, 50.0, 0.0)
_TTFTS = (0.0, 0.05, 0.3, 1.5)
_LINGERS = (0.0, 0.0, 0.0, 1.0, 4.0)
_LONG_RATES = (400.0, 0.0)
_STATUSES = (400, 401, 429, 500, 503)
_FAULTS: tuple[Fault, ...] = ("before", "mid", "truncate", "cut")


@dataclass(frozen=True)
class Question:
    """One question to the engine. Readers who ask the same one may share its answer.

    Attributes:
        prompt: no two questions have the same, so an answer tells which question it is for.
        is_chat: a chat completion, else a completion.
        tokens: how many it asks for.
        rate, ttft: tokens per second (0: as fast as possible), seconds to the first one.
        linger: seconds that the generation is to outlive its readers.
        fault: how the engine is to fail, None if it is not.
        status: with which status it is to refuse instead, None if it is not.
    """

    prompt: str
    is_chat: bool
    tokens: int
    rate: float
    ttft: float
    linger: float = 0.0
    fault: Fault | None = None
    status: int | None = None

    @property
    def path(self) -> str:
        return "/v1/chat/completions" if self.is_chat else "/v1/completions"

    def body(self, *, stream: bool) -> bytes:
        """The body of the request, always the same bytes."""
        prompt: dict[str, object] = {"prompt": self.prompt}
        if self.is_chat:
            prompt = {"messages": [{"role": "user", "content": self.prompt}]}
        fields = {"model": MODEL, **prompt, "max_tokens": self.tokens, "stream": stream}
        return json.dumps(fields).encode()

    @property
    def headers(self) -> dict[str, str]:
        """What is said in headers: the pace and the failure to the engine, the linger to the
        proxy."""
        headers = {"x-sim-rate": f"{self.rate:g}", "x-sim-ttft": f"{self.ttft:g}"}
        if self.linger:
            headers["x-linger"] = f"{self.linger:g}"
        if self.fault is not None:
            headers["x-sim-fail"] = self.fault
        if self.status is not None:
            headers["x-sim-status"] = str(self.status)
        return headers

    @property
    def refusal(self) -> int | None:
        """The status with which it is refused; None where it is answered."""
        return 500 if self.fault == "before" else self.status

    @property
    def ending(self) -> str:
        """How a stream of it ends if nobody stops it: COMPLETED, TOLD, or the code of the proxy's
        error."""
        return COMPLETED if self.fault is None else BROKEN_ENDINGS[self.fault]

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The text of each event of its stream, by seq less 1, as far as events carry text: the
        role of a chat and the finish are "". The event that ends the stream is not among them."""
        opening = ("",) if self.is_chat else ()
        if self.fault is not None:
            return opening + tuple(generate_text(self.prompt, self.tokens // 2))
        return (*opening, *generate_text(self.prompt, self.tokens), "")

    @property
    def whole_status(self) -> int:
        """The status of its answer where it is asked for no stream. One that the engine truncated
        looks whole to whoever reads no JSON."""
        if self.refusal is not None:
            return self.refusal
        return {"mid": 500, "cut": 502}.get(self.fault or "", 200)

    @property
    def whole_text(self) -> str:
        """The text of the whole answer."""
        return "".join(generate_text(self.prompt, self.tokens))


def draw_question(random: Random, prompt: str) -> Question:
    """Draw a question with this prompt: short or long, quick or slow, one in five to fail."""
    rate = random.choice(_RATES)
    most = min(MAX_SECONDS * rate, MAX_TOKENS) if rate else MAX_TOKENS
    tokens = max(4, round(most ** random.uniform(0.3, 1.0)))
    fault, status = None, None
    if random.random() < 0.2:
        fault = random.choice((*_FAULTS, None))
        status = random.choice(_STATUSES) if fault is None else None
    return Question(
        prompt=prompt,
        is_chat=random.random() < 0.5,
        tokens=tokens,
        rate=rate,
        ttft=random.choice(_TTFTS),
        linger=random.choice(_LINGERS),
        fault=fault,
        status=status,
    )


def draw_long_question(random: Random, prompt: str) -> Question:
    """Draw one whose answer is larger than what the kernel holds for a reader that stalls."""
    return Question(
        prompt=prompt,
        is_chat=random.random() < 0.5,
        tokens=300,
        rate=random.choice(_LONG_RATES),
        ttft=0.05,
    )


def draw_endless_question(random: Random, prompt: str) -> Question:
    """Draw one whose answer outlasts any soak's patience: only a cancelled call of it ever ends."""
    return Question(
        prompt=prompt,
        is_chat=random.random() < 0.5,
        tokens=10_000,
        rate=10.0,
        ttft=random.choice(_TTFTS),
        linger=random.choice(_LINGERS),
    )
