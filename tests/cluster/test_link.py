"""A connection that cannot be made. In virtual time."""

from __future__ import annotations

from itertools import pairwise

import trio
from coredis.connection import BaseConnection
from trio.testing import MockClock

from trioproxy.cluster.link import FIRST_PAUSE, Link

LONGEST = 1.0


async def test_pauses_between_attempts_grow_up_to_the_longest(autojump_clock: MockClock) -> None:
    attempts: list[float] = []

    async def refuse() -> BaseConnection:
        attempts.append(trio.current_time())
        raise OSError("nobody listens")

    with trio.move_on_after(100):
        await Link(refuse, 2.0, LONGEST, lambda link: None).run()

    pauses = [later - earlier for earlier, later in pairwise(attempts)]
    assert pauses[0] <= FIRST_PAUSE
    assert LONGEST / 2 <= max(pauses) <= LONGEST
    assert 100 / LONGEST <= len(attempts) < 220
