"""How an upstream is, by asking it again and again."""

from __future__ import annotations

import random
from typing import NoReturn

import trio

from trioproxy.upstream.route import Member
from trioproxy.upstream.survey import status_of

FAILURES = 2
"""After so many in a row it is down. One answer, and it is up."""

JITTER = 0.1
"""The part of an interval by which it may be shorter, so that many proxies do not ask as one."""


async def watch_health(member: Member, path: str, interval: float) -> NoReturn:
    """Ask for ``path`` each ``interval`` seconds, for which each answer is waited at most, and tell
    the member's standing. If cancelled, nothing is told."""
    failures = 0
    while True:
        status = await status_of(member.upstream, path, seconds=interval)
        await trio.lowlevel.checkpoint_if_cancelled()  # an answer may have come in the same tick
        failures = 0 if status < 400 else failures + 1
        member.standing.is_up = failures < FAILURES
        await trio.sleep(interval * random.uniform(1 - JITTER, 1))
