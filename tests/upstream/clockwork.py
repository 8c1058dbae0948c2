"""An upstream that says what it says at given times, without a socket: for a mocked clock."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest
import trio

from trioproxy.upstream import upstream
from trioproxy.upstream.call import Answer


@dataclass(frozen=True)
class TimedAnswer:
    """The head after `head_after` seconds, and then each chunk after so many seconds more."""

    body: Sequence[tuple[float, bytes]]
    head_after: float = 0
    status: int = 200
    media_type: str = "text/event-stream"

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let every call, from here on, get this answer."""
        monkeypatch.setattr(upstream, "open_call", self._open)

    @asynccontextmanager
    async def _open(self, *_: object, **__: object) -> AsyncGenerator[Answer]:
        await trio.sleep(self.head_after)
        response = httpx.Response(self.status, headers={"content-type": self.media_type})
        async with aclosing(self._chunks()) as chunks:
            yield Answer(response, chunks)

    async def _chunks(self) -> AsyncGenerator[bytes]:
        for seconds, chunk in self.body:
            await trio.sleep(seconds)
            yield chunk
