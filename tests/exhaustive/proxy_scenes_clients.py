"""Who comes to the proxy in a scene, and what each is told."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import h11
import trio

from tests.support.rawhttp import RawClient
from tests.support.response import Head
from tests.support.sse import SseEvent, SseReader
from tests.support.websocket import HANDSHAKE, Peer
from trioproxy.testing.proxy import ADDRESS

COMPLETIONS = "/v1/completions"
MODELS_PATH = "/v1/models"
STREAMED = b'{"prompt": "The river", "stream": true}'
EVENT_STREAM = "text/event-stream; charset=utf-8"

STATUSES = {
    "cancelled": 410,
    "draining": 503,
    "evicted_slow": 410,
    "overtaken": 410,
    "refused_by_the_engine": 500,
    "shutting_down": 503,
    "upstream_broken": 502,
    "upstream_truncated": 502,
    "upstream_unreachable": 502,
}
"""The codes of the failures that clients may be told, and the status of each where it is told
before the first byte."""

Ending = Literal["whole", "left", "struck", "refused", "silence", "cut", "reset"]
"""How an answer ended: as its framing says; because the client had enough, or was taken away by a
blow; nobody let the client in; the proxy closed before the head, or after it; by a reset."""


@dataclass(eq=False)
class Answer:
    """What a client was told in reply to one request: in the order in which it can come."""

    method: str
    path: str
    after: int
    """The last event that the client had read before."""
    is_late: bool
    """Whether the proxy took no more clients when it was asked for."""
    is_slow: bool
    """Whether the client lets the proxy wait for longer than the proxy is ready to."""
    head: Head | None = None
    events: list[SseEvent] = field(default_factory=list[SseEvent])
    body: bytes = b""
    """Of an answer that is no stream."""
    ending: Ending = "struck"

    @property
    def is_stream(self) -> bool:
        return self.head is not None and self.head.headers.get("content-type") == EVENT_STREAM

    @property
    def last_event_id(self) -> str | None:
        """Where to resume: the last id that came."""
        return next((event.id for event in reversed(self.events) if event.id), None)

    @property
    def generation_id(self) -> str | None:
        return self.head.headers.get("x-generation-id") if self.head else None

    @property
    def is_cut_off(self) -> bool:
        """Whether the proxy has let its client down: one that neither came too late nor held it
        up."""
        if self.is_late and self.head is None:
            return False
        if self.is_slow and self.ending == "reset":
            return False
        return self.ending in ("refused", "silence", "cut", "reset")

    @property
    def is_forwarded(self) -> bool:
        return self.path == MODELS_PATH

    @property
    def story(self) -> str:
        """All of it in a line: the status unless it is a stream; the events by their seqs, gaps,
        errors by their codes, DONE; how it ended unless it is whole."""
        words: list[str] = []
        if self.is_stream:
            words += map(_word, self.events)
        elif self.head is not None:
            words += [str(self.head.status), code_of(self.body) or ""]
        if self.ending != "whole":
            words.append(self.ending)
        return " ".join(filter(None, words))


def code_of(body: bytes) -> str | None:
    """The code of an error in the words of OpenAI's API; None if the body is no such error."""
    try:
        return json.loads(body)["error"].get("code")
    except (ValueError, KeyError, TypeError):
        return None


def _word(event: SseEvent) -> str:
    if event.data == b"[DONE]":
        return "DONE"
    if event.name == "gap":
        gap: dict[str, int] = json.loads(event.data)
        return "gap({first}-{last})".format(**gap)
    if event.data.startswith(b'{"error"'):
        return code_of(event.data) or "error"
    return event.id.rpartition(":")[2] if event.id else "?"


class Client:
    """One connection to the proxy, for requests one after the other; made with the first.

    What it does, it does within ``scope``: a blow takes it away in the middle.
    """

    def __init__(self, is_late: Callable[[], bool], *, rcvbuf: int | None, patience: float) -> None:
        self.scope = trio.CancelScope()
        self.answers: list[Answer] = []
        self._is_late = is_late
        self._rcvbuf = rcvbuf
        self._patience = patience
        self._raw: RawClient | None = None

    async def ask(
        self,
        method: str = "POST",
        target: str = COMPLETIONS,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = STREAMED,
        version: str = "1.1",
        enough: float = math.inf,
        pause: float = 0,
    ) -> Answer:
        """Make a request, in this version of HTTP, and read the answer: to its end, or until
        ``enough`` events have come; pausing after each."""
        last_event_id = (headers or {}).get("Last-Event-ID", "0")
        after = int(last_event_id.rpartition(":")[2])
        is_slow = pause > self._patience
        answer = Answer(method, target, after, is_late=self._is_late(), is_slow=is_slow)
        self.answers.append(answer)
        try:
            raw = await self._connect()
            request = _request(method, target, version, headers or {}, body)
            await raw.send(request, within=math.inf)
            answer.ending = await self._read(raw, answer, enough, pause)
        except OSError:
            answer.ending = "refused"
        except trio.BrokenResourceError:
            answer.ending = "reset"
        except trio.ClosedResourceError:
            answer.ending = "struck"
        return answer

    async def upgrade(self, target: str) -> Peer | None:
        """Make the connection a WebSocket; None where the proxy has let nobody in."""
        try:
            raw = await self._connect()
            await raw.request("GET", target, headers=HANDSHAKE, within=math.inf)
            head = await raw.response_head(within=math.inf)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            return None
        except h11.RemoteProtocolError:  # it closed before the head
            return None
        return Peer(raw, within=math.inf) if head.status == 101 else None

    async def _connect(self) -> RawClient:
        if self._raw is None:
            self._raw = await RawClient.connect(*ADDRESS, rcvbuf=self._rcvbuf, within=math.inf)
        return self._raw

    async def _read(self, raw: RawClient, answer: Answer, enough: float, pause: float) -> Ending:
        try:
            answer.head = await raw.response_head(within=math.inf)
        except h11.RemoteProtocolError:
            await raw.wait_closed(within=0)  # it has been; or else what came is no HTTP
            return "silence"
        if not answer.is_stream:
            answer.body = await raw.body(within=math.inf)
        stream = SseReader()
        while answer.is_stream and (chunk := await raw.chunk(within=math.inf)) is not None:
            for event in stream.feed(chunk):
                answer.events.append(event)
                if len(answer.events) >= enough:
                    return "left"
                if pause:
                    await trio.sleep(pause)
        if not raw.ended_properly and await raw.wait_closed(within=0) == "reset":
            return "reset"
        stream.finish()  # only a reset may come in the middle of an event
        return "whole" if raw.ended_properly else "cut"

    async def wait_closed(self) -> None:
        """Wait until the proxy has closed the connection, or the blow has."""
        if self._raw is not None:
            with suppress(trio.ClosedResourceError):
                await self._raw.wait_closed(within=math.inf)

    def close(self) -> None:
        """Close the connection, in the middle of whatever it is in. Idempotent."""
        if self._raw is not None:
            self._raw.close()
            self._raw = None

    def half_close(self) -> None:
        """Say that nothing more will be asked, and read on."""
        if self._raw is not None:
            with suppress(OSError):  # the proxy has left already
                self._raw.half_close()

    def reset(self) -> None:
        """Reset it, if it is open."""
        if self._raw is not None:
            self._raw.reset()
            self._raw = None


def _request(
    method: str, target: str, version: str, headers: Mapping[str, str], body: bytes
) -> bytes:
    if method != "POST":
        body = b""
    fields = {"Host": "localhost", "Content-Length": str(len(body)), **headers}
    head = [f"{method} {target} HTTP/{version}", *(f"{n}: {v}" for n, v in fields.items()), "", ""]
    return "\r\n".join(head).encode() + body
