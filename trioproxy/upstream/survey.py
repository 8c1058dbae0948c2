"""Questions about upstreams, rather than calls of them: they take no call's place, and tell nothing
of how calls fare."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import trio

from trioproxy.fanout import SourceFailed
from trioproxy.upstream.request import UpstreamRequest
from trioproxy.upstream.upstream import Upstream

logger = logging.getLogger(__name__)

HEALTH = "/health"
"""Where no other is named: what llama.cpp and vLLM tell of themselves; others answer that there is
no such thing, and live too."""

NO_ANSWER = 503
MAX_ANSWER_BYTES = 8 * 1024 * 1024


async def status_of(upstream: Upstream, path: str, *, seconds: float) -> int:
    """The status that is answered; that of a server that cannot serve where none is in time."""
    return (await _ask(upstream, UpstreamRequest("GET", path.encode(), [], b""), seconds))[0]


async def any_lives(asked: Iterable[tuple[Upstream, str]]) -> bool:
    """Whether one of them, asked for its path, says something, in the time that it has to be
    connected to, and not that it cannot serve. All are asked at once; if cancelled, no longer."""
    lives = False

    async def ask(upstream: Upstream, path: str) -> None:
        nonlocal lives
        if await status_of(upstream, path, seconds=upstream.timeouts.connect) < 500:
            lives = True
            nursery.cancel_scope.cancel(reason="one is enough")

    async with trio.open_nursery() as nursery:
        for upstream, path in asked:
            nursery.start_soon(ask, upstream, path)
    return lives


async def ask_all(
    upstreams: Iterable[Upstream], request: UpstreamRequest, *, seconds: float
) -> dict[Upstream, bytes]:
    """The bodies of those that answer with success, and whole, within so many seconds. All are
    asked at once; if cancelled, no longer."""
    answers: dict[Upstream, bytes] = {}

    async def ask(upstream: Upstream) -> None:
        status, body = await _ask(upstream, request, seconds)
        if status == 200:
            answers[upstream] = body

    async with trio.open_nursery() as nursery:
        for upstream in upstreams:
            nursery.start_soon(ask, upstream)
    return answers


async def _ask(upstream: Upstream, request: UpstreamRequest, seconds: float) -> tuple[int, bytes]:
    body = bytearray()
    with trio.move_on_after(seconds):
        try:
            async with upstream.forward(request) as answer:
                async for chunk in answer:  # to its end, so that the connection can be used again
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        return NO_ANSWER, b""
                return answer.head.status, bytes(body)
        except SourceFailed:
            pass
        except Exception:  # in what is beside all calls: it must end none
            logger.exception("%s could not be asked", upstream.name)
    return NO_ANSWER, b""
