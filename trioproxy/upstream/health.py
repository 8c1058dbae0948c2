"""How an upstream is, by asking it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import NoReturn

import trio

from trioproxy.fanout import SourceFailed
from trioproxy.upstream.request import UpstreamRequest
from trioproxy.upstream.route import Member
from trioproxy.upstream.upstream import Upstream

FAILURES = 2
"""After so many in a row it is down. One answer, and it is up."""

NO_ANSWER = 503

JITTER = 0.1
"""The part of an interval by which it may be shorter, so that many proxies do not ask as one."""


PATH = "/health"
"""What llama.cpp and vLLM tell of themselves; others answer that there is no such thing, and live
too."""


async def watch_health(member: Member, path: str, interval: float) -> NoReturn:
    """Ask for ``path`` each ``interval`` seconds, for which each answer is waited at most, and tell
    the member's standing. If cancelled, nothing is told."""
    failures = 0
    while True:
        status = await _ask(member.upstream, path, interval)
        failures = 0 if status < 400 else failures + 1
        member.standing.is_up = failures < FAILURES
        await trio.sleep(interval * random.uniform(1 - JITTER, 1))


async def any_lives(upstreams: Iterable[Upstream]) -> bool:
    """Whether one of them says something, in the time that it has to be connected to, and not that
    it cannot serve. All are asked at once; if cancelled, no longer."""
    lives = False

    async def ask(upstream: Upstream) -> None:
        nonlocal lives
        if await _ask(upstream, PATH, upstream.timeouts.connect) < 500:
            lives = True
            nursery.cancel_scope.cancel(reason="one is enough")

    async with trio.open_nursery() as nursery:
        for upstream in upstreams:
            nursery.start_soon(ask, upstream)
    return lives


async def _ask(upstream: Upstream, path: str, seconds: float) -> int:
    """The status of the answer; that of a server that cannot serve where there is none in time."""
    request = UpstreamRequest("GET", path.encode(), [], b"")
    with trio.move_on_after(seconds):
        try:
            async with upstream.forward(request) as answer:
                async for _ in answer:
                    pass  # to its end, so that the connection can be used again
                return answer.head.status
        except SourceFailed:
            return NO_ANSWER
    return NO_ANSWER
