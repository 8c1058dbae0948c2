"""The same question to several upstreams at once."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from trioproxy.fanout import SourceFailed
from trioproxy.upstream.request import UpstreamRequest
from trioproxy.upstream.upstream import Upstream

MAX_ANSWER_BYTES = 8 * 1024 * 1024


async def ask_all(
    upstreams: Iterable[Upstream], request: UpstreamRequest, *, seconds: float
) -> dict[Upstream, bytes]:
    """The bodies of those that answered with success, and whole, within so many seconds.

    If cancelled, every call has been closed.
    """
    answers: dict[Upstream, bytes] = {}

    async def ask(upstream: Upstream) -> None:
        body = bytearray()
        try:
            async with upstream.forward(request) as answer:
                async for chunk in answer:
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        return
        except SourceFailed:
            return
        if answer.head.status == 200:
            answers[upstream] = bytes(body)

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for upstream in upstreams:
                nursery.start_soon(ask, upstream)
    return answers
