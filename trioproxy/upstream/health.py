"""How an upstream is, by asking it."""

from __future__ import annotations

import random
from typing import NoReturn

import trio

from trioproxy.fanout import SourceFailed
from trioproxy.upstream.request import UpstreamRequest
from trioproxy.upstream.route import Member

FAILURES = 2
"""After so many in a row it is down. One answer, and it is up."""

JITTER = 0.1
"""The part of an interval by which it may be shorter, so that many proxies do not ask as one."""


async def watch_health(member: Member, path: str, interval: float) -> NoReturn:
    """Ask for ``path`` each ``interval`` seconds, for which each answer is waited at most, and tell
    the member's standing. If cancelled, nothing is told."""
    failures = 0
    while True:
        failures = 0 if await _is_well(member, path, interval) else failures + 1
        member.standing.is_up = failures < FAILURES
        await trio.sleep(interval * random.uniform(1 - JITTER, 1))


async def _is_well(member: Member, path: str, seconds: float) -> bool:
    request = UpstreamRequest("GET", path.encode(), [], b"")
    with trio.move_on_after(seconds):
        try:
            async with member.upstream.forward(request) as answer:
                return answer.head.status < 400
        except SourceFailed:
            return False
    return False
