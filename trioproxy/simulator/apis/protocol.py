"""What every API of the engine is made of: how it reads a body, and how it tells an answer.

An API is data and a few functions of data. When its tokens are due, how an answer breaks and who
has left is the same for all of them and is decided elsewhere.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from trioproxy.simulator.refusal import Failure

Breakage: TypeAlias = Literal["mid", "truncate", "cut", "stall"]

_NS_PER_SECOND = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a body asks for, in the same words for every API; None is for the engine to choose.

    Attributes:
        texts: the instructions, if any, and the messages, or else the prompt alone; never empty.
        model: the name of the model.
        tokens: tokens per choice.
        seed: the seed of the first choice.
        stream: whether the answer is to be streamed.
        choices: how many texts are asked for.
        include_usage: whether a stream is to end with its usage, where an API lets one choose.
    """

    texts: Sequence[str]
    model: str | None
    tokens: int | None
    seed: int | None
    stream: bool
    choices: int = 1
    include_usage: bool = False


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """A generation call, understood: the engine's settings, the body and the switches in one.

    Attributes:
        model: the name that the answer repeats.
        prompt: what the tokens are a function of: the texts of the body, joined by LF.
        seed: the seed of the first choice; each further choice's is one more.
        choices: how many texts are asked for.
        tokens: tokens per choice, 1 or more.
        stream: whether the answer is a stream.
        include_usage: whether the stream ends with a usage chunk (OpenAI's `stream_options`).
        numbered: whether the events of a stream have a `sequence_number` (Responses).
        rate, ttft: as in `EngineSettings`.
        fail: how the answer is to break, or None.
    """

    model: str
    prompt: str
    seed: int
    choices: int
    tokens: int
    stream: bool
    include_usage: bool
    numbered: bool
    rate: float
    ttft: float
    fail: Breakage | None

    @property
    def prompt_tokens(self) -> int:
        """The length of the prompt; a word counts as a token."""
        return len(self.prompt.split())

    @property
    def prompt_ns(self) -> int:
        """Nanoseconds to the first token, by the schedule; at least 1, as clients divide by it."""
        return max(1, round(self.ttft * _NS_PER_SECOND))

    @property
    def answer_ns(self) -> int:
        """Nanoseconds from the first token to the last, by the schedule; at least 1."""
        return max(1, round((self.tokens - 1) / self.rate * _NS_PER_SECOND)) if self.rate else 1


class Reply(Protocol):
    """The answer to one request, in the words of its API.

    A stream is `opening`, tokens, and `ending` or `failure`, called in this order; an answer that
    is not streamed is `whole`.
    """

    def opening(self) -> bytes:
        """Return what comes before the first token, and with it."""
        ...

    def tokens(self) -> Iterator[bytes]:
        """Yield, for each token position, the frames of every choice; for ever."""
        ...

    def ending(self) -> bytes:
        """Return what follows the last token."""
        ...

    def failure(self, failure: Failure) -> bytes:
        """Return what follows the last token, or the head, when the stream fails there."""
        ...

    def whole(self) -> bytes:
        """Return the JSON that answers a request which asks for no stream."""
        ...


@dataclass(frozen=True)
class Framing:
    """What a stream is, whatever it says: the headers it comes with, and how it breaks a silence.

    `comment` is what readers pass over; b"" where there is no such thing.
    """

    headers: Mapping[str, str]
    comment: bytes


EVENT_STREAM = Framing(
    {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"},
    comment=b":\n\n",  # as llama.cpp says that it is alive
)
JSON_LINES = Framing({"content-type": "application/x-ndjson"}, comment=b"")


@dataclass(frozen=True)
class Api:
    """One API, as the engine speaks it on one route.

    Attributes:
        read: tells what a body asks for; raises `Refusal` (400) if it cannot be understood.
        reply: makes the answer to a request.
        error: the JSON object that tells a failure as an HTTP body.
        framing: how its streams are framed.
        required_tokens: the field of the body that must tell the number of tokens, where the API
            knows no default; None where the engine's settings have one.
    """

    read: Callable[[bytes], Asked]
    reply: Callable[[GenerationRequest], Reply]
    error: Callable[[Failure], Mapping[str, object]]
    framing: Framing = EVENT_STREAM
    required_tokens: str | None = None
