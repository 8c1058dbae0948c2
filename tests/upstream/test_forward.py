"""A call that is passed through as it is, whatever its status."""

from __future__ import annotations

import pytest
import trio

from tests.upstream.calls import REQUEST, upstream_to
from tests.upstream.engine import LAST_CHUNK, chunk, play, play_and_finish, start_engine
from trioproxy.testing import TaskCensus
from trioproxy.upstream import (
    Head,
    Timeouts,
    UpstreamBroken,
    UpstreamRequest,
    UpstreamSilent,
)

CHUNKED = b"HTTP/1.1 %b\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("status", [b"200 OK", b"302 Found", b"404 Not Found", b"500 Oh"])
async def test_answer_is_handed_on_whatever_its_status(
    nursery: trio.Nursery, status: bytes
) -> None:
    engine = await start_engine(
        nursery, play(CHUNKED % status, chunk(b"ab"), chunk(b"c"), LAST_CHUNK)
    )

    async with upstream_to(engine).forward(REQUEST) as answer:
        body = b"".join([piece async for piece in answer])

    assert answer.head == Head(int(status[:3]), [(b"transfer-encoding", b"chunked")])
    assert body == b"abc"


async def test_answer_to_head_has_no_body(nursery: trio.Nursery) -> None:
    engine = await start_engine(nursery, play(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"))
    request = UpstreamRequest("HEAD", b"/v1/models", [], b"")

    async with upstream_to(engine).forward(request) as answer:
        body = [piece async for piece in answer]

    assert body == []
    assert answer.head.headers == [(b"content-length", b"99")]


async def test_compressed_body_is_handed_on_as_it_is(nursery: trio.Nursery) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n"
    engine = await start_engine(nursery, play(head + b"\x1f\x8b\x08\x00"))

    async with upstream_to(engine).forward(REQUEST) as answer:
        body = b"".join([piece async for piece in answer])

    assert body == b"\x1f\x8b\x08\x00"


async def test_answer_without_a_head_in_time_is_silent(nursery: trio.Nursery) -> None:
    engine = await start_engine(nursery, play())
    upstream = upstream_to(engine, timeouts=Timeouts(first_token=0.05))

    with pytest.raises(UpstreamSilent):
        await upstream.forward(REQUEST).__aenter__()


async def test_body_that_breaks_off_is_broken(nursery: trio.Nursery) -> None:
    engine = await start_engine(nursery, play_and_finish(CHUNKED % b"200 OK", chunk(b"ab")))

    async with upstream_to(engine).forward(REQUEST) as answer:
        assert await anext(answer) == b"ab"
        with pytest.raises(UpstreamBroken):
            await anext(answer)


@pytest.mark.parametrize("pieces_read", [0, 1, 2])
async def test_call_that_is_left_early_leaves_nothing(
    nursery: trio.Nursery, pieces_read: int
) -> None:
    segments = [CHUNKED % b"200 OK" + chunk(bytes(50_000)) * 10 + LAST_CHUNK]
    engine = await start_engine(nursery, play(*segments))
    upstream = upstream_to(engine)
    with TaskCensus() as census:
        async with upstream.place(), upstream.forward(REQUEST) as answer:
            for _ in range(pieces_read):
                await anext(answer)
            assert upstream.open_calls == 1

        assert upstream.open_calls == 0
        await engine.peers[0].left.wait()
        await census.settled()
