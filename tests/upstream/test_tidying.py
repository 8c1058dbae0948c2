"""Leaving a call: the socket goes first; then, behind a proxy, httpx may put its house in order for
a moment."""

from __future__ import annotations

import time

import httpx
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.upstream.calls import read, stream_of, upstream_to
from tests.upstream.engine import AT_ONCE, HEAD_OF_STREAM, chunk, events, play, start_engine
from trioproxy.testing import TaskCensus
from trioproxy.upstream import proxied

pytestmark = pytest.mark.usefixtures("without_garbage_collection")


@pytest.mark.parametrize("is_proxied", [False, True], ids=["direct", "proxied"])
async def test_call_that_is_left_with_events_unread_leaves_nothing(
    nursery: trio.Nursery, is_proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await start_engine(nursery, play(HEAD_OF_STREAM, chunk(events(b"a")) * 100))
    monkeypatch.setenv("ALL_PROXY", engine.url())
    upstream = upstream_to(engine, trust_env=is_proxied)
    with TaskCensus() as census:
        async with stream_of(upstream) as feed:
            await anext(aiter(feed))

        # No task and no ResourceWarning: httpx nests generators, and each must have been finished.
        await census.settled(within=0.5)


async def test_socket_is_closed_before_httpx_tidies_up(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(response: httpx.Response) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(httpx.Response, "aclose", hang)
    monkeypatch.setattr(proxied, "TIDY_SECONDS", 0.5)
    engine = await start_engine(nursery, play(HEAD_OF_STREAM, chunk(events(b"a")) * 2))
    monkeypatch.setenv("ALL_PROXY", engine.url())
    upstream = upstream_to(engine, trust_env=True)

    async with stream_of(upstream) as feed:
        await anext(aiter(feed))
        left_at = time.perf_counter()
    returned_at = time.perf_counter()
    peer = engine.peers[0]
    await peer.left.wait()

    assert peer.left_at - left_at < AT_ONCE
    assert 0.5 <= returned_at - left_at < 5


async def test_httpx_may_take_a_moment_to_tidy_up_after_a_cancelled_call(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    tidied = 0

    async def take_a_moment(client: httpx.AsyncClient, *error: object) -> None:
        nonlocal tidied
        await trio.sleep(0.001)
        await client.aclose()
        tidied += 1

    monkeypatch.setattr(httpx.AsyncClient, "__aexit__", take_a_moment)
    engine = await start_engine(nursery, play(HEAD_OF_STREAM))
    monkeypatch.setenv("ALL_PROXY", engine.url())

    async with trio.open_nursery() as calls:
        calls.start_soon(read, upstream_to(engine, trust_env=True))
        peer = await engine.next_peer()
        await peer.played.wait()
        await wait_all_tasks_blocked()
        calls.cancel_scope.cancel()

    assert tidied == 1
