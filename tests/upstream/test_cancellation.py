"""Cancelled at whatever point, a call is gone: the engine sees the end of the connection at once,
and nothing of the call stays behind, without the garbage collector's help."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.stepping import AtStep
from tests.upstream.calls import REQUEST, read, stream_of, upstream_to
from tests.upstream.engine import (
    AT_ONCE,
    DONE,
    HEAD_OF_STREAM,
    LAST_CHUNK,
    Engine,
    Peer,
    Script,
    chunk,
    events,
    play,
    server_context,
    start_engine,
)
from tests.upstream.nowhere import StuckResolver, listen_in_vain
from trioproxy.fanout import open_hub
from trioproxy.testing import TaskCensus
from trioproxy.upstream import Upstream

pytestmark = pytest.mark.usefixtures("without_garbage_collection")


# -- how a call comes to be cancelled: each of these makes one, and cancels it on exit -------------


@asynccontextmanager
async def its_caller_is_cancelled(upstream: Upstream) -> AsyncGenerator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, upstream)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def its_last_reader_leaves(upstream: Upstream) -> AsyncGenerator[None]:
    async with open_hub() as hub:
        with hub.join("key", stream_of(upstream)):
            yield


@asynccontextmanager
async def its_hub_is_cancelled(upstream: Upstream) -> AsyncGenerator[None]:
    with trio.CancelScope() as scope:
        async with open_hub() as hub:
            hub.start("key", stream_of(upstream), linger=60)
            yield
            scope.cancel()


Caller = Callable[[Upstream], AbstractAsyncContextManager[None]]
CALLERS: list[Caller] = [its_caller_is_cancelled, its_last_reader_leaves, its_hub_is_cancelled]


async def seconds_until_seen(engine: Engine, upstream: Upstream, caller: Caller) -> float:
    """Cancel a call once the engine's script is played; how long the engine did not know of it."""
    async with caller(upstream):
        peer = await engine.next_peer()
        await peer.played.wait()
        await wait_all_tasks_blocked()
        assert upstream.open_calls == 1
        cancelled_at = time.perf_counter()
    assert upstream.open_calls == 0
    await peer.left.wait()
    return peer.left_at - cancelled_at


# -- the phases of a call, each as what the engine does before it waits for the client to leave ----


async def accepts(peer: Peer) -> None:
    assert not peer.received


async def shakes_half_a_hand(peer: Peer) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = server_context().wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(await peer.receive())
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    flight = outgoing.read()
    await peer.send(flight[: len(flight) // 2])


PHASES = {
    "no head": play(),
    "half a head": play(HEAD_OF_STREAM[:40]),
    "a head and no event": play(HEAD_OF_STREAM),
    "between events": play(HEAD_OF_STREAM, chunk(events(b"a"))),
    "in the middle of an event": play(HEAD_OF_STREAM, chunk(events(b"a") + b"data: b")),
    "in the middle of a chunk": play(HEAD_OF_STREAM, chunk(events(b"a")), b"20\r\ndata: b"),
    "in a refusal's body": play(
        b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n", chunk(b"busy")
    ),
}


@pytest.mark.parametrize("tls", [None, server_context()], ids=["plain", "tls"])
@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("script", PHASES.values(), ids=PHASES.keys())
async def test_engine_sees_at_once_that_a_call_is_cancelled(
    nursery: trio.Nursery, script: Script, caller: Caller, tls: ssl.SSLContext | None
) -> None:
    engine = await start_engine(nursery, script, tls=tls)
    with TaskCensus() as census:
        assert await seconds_until_seen(engine, upstream_to(engine), caller) < AT_ONCE
        await census.settled()


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("script", [accepts, shakes_half_a_hand])
async def test_engine_sees_at_once_that_a_call_is_cancelled_in_the_tls_handshake(
    nursery: trio.Nursery, script: Script, caller: Caller
) -> None:
    engine = await start_engine(nursery, script)
    upstream = upstream_to(engine, url=engine.url("https"))
    with TaskCensus() as census:
        assert await seconds_until_seen(engine, upstream, caller) < AT_ONCE
        await census.settled()


@pytest.mark.parametrize("caller", [its_caller_is_cancelled, its_hub_is_cancelled])
async def test_engine_sees_at_once_that_a_call_is_cancelled_after_its_terminal_event(
    nursery: trio.Nursery, caller: Caller
) -> None:
    engine = await start_engine(nursery, play(HEAD_OF_STREAM, chunk(events(b"a") + DONE)))
    with TaskCensus() as census:
        assert await seconds_until_seen(engine, upstream_to(engine), caller) < AT_ONCE
        await census.settled()


async def test_engine_sees_at_once_that_a_call_is_cancelled_while_it_sends_its_body(
    nursery: trio.Nursery,
) -> None:
    may_read = trio.Event()

    async def reads_late(peer: Peer) -> None:
        await peer.head()
        await may_read.wait()

    engine = await start_engine(nursery, reads_late)
    upstream = upstream_to(engine)
    request = replace(REQUEST, body=bytes(32 * 1024 * 1024))
    with TaskCensus() as census:
        async with trio.open_nursery() as calls:
            calls.start_soon(read, upstream, request)
            peer = await engine.next_peer()
            await wait_all_tasks_blocked()
            calls.cancel_scope.cancel()
        cancelled_at = time.perf_counter()
        may_read.set()
        await peer.left.wait()

        assert len(peer.received) < len(request.body)
        assert peer.left_at - cancelled_at < AT_ONCE
        assert upstream.open_calls == 0
        await census.settled()


@pytest.mark.parametrize("caller", CALLERS)
async def test_proxy_sees_at_once_that_a_call_is_cancelled_in_the_handshake_through_its_tunnel(
    nursery: trio.Nursery, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def opens_a_tunnel(peer: Peer) -> None:
        assert (await peer.head()).startswith(b"CONNECT engine.test:443 HTTP/1.1\r\n")
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")

    proxy = await start_engine(nursery, opens_a_tunnel)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url())
    monkeypatch.delenv("NO_PROXY", raising=False)
    upstream = upstream_to(proxy, url="https://engine.test", trust_env=True)
    with TaskCensus() as census:
        assert await seconds_until_seen(proxy, upstream, caller) < AT_ONCE
        await census.settled()


# -- before there is a connection ------------------------------------------------------------------


async def test_call_that_is_cancelled_before_it_begins_makes_no_connection(
    nursery: trio.Nursery,
) -> None:
    engine = await start_engine(nursery, play())
    upstream = upstream_to(engine)
    with TaskCensus() as census:
        with trio.CancelScope() as scope:
            scope.cancel()
            await read(upstream)
        async with its_last_reader_leaves(upstream):
            pass
        await wait_all_tasks_blocked()

        assert engine.peers == []
        assert upstream.open_calls == 0
        await census.settled()


@pytest.mark.parametrize("caller", CALLERS)
async def test_call_that_is_cancelled_while_it_resolves_leaves_nothing(caller: Caller) -> None:
    resolver = StuckResolver()
    trio.socket.set_custom_hostname_resolver(resolver)
    upstream = Upstream("http://engine.test")
    with TaskCensus():
        async with caller(upstream):
            await resolver.asked.wait()
            assert upstream.open_calls == 1

        assert upstream.open_calls == 0


@pytest.mark.parametrize("caller", CALLERS)
async def test_call_that_is_cancelled_while_it_connects_leaves_nothing(caller: Caller) -> None:
    with listen_in_vain() as url:
        upstream = Upstream(url)
        with TaskCensus() as census:
            async with caller(upstream):
                await wait_all_tasks_blocked()
                with pytest.raises(AssertionError, match="connected to nobody"):
                    await census.settled(within=0)

            assert upstream.open_calls == 0


# -- at every other point --------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [None, server_context()], ids=["plain", "tls"])
async def test_cancellation_at_any_step_of_a_call_leaves_nothing(
    nursery: trio.Nursery, tls: ssl.SSLContext | None
) -> None:
    answer = [HEAD_OF_STREAM, chunk(events(b"a")), chunk(events(b"b")), chunk(DONE), LAST_CHUNK]
    engine = await start_engine(nursery, play(*answer), tls=tls)
    upstream = upstream_to(engine)
    steps, reached = 0, True
    while reached:
        steps += 1
        scope = trio.CancelScope()
        with TaskCensus() as census:
            with AtStep(steps, scope.cancel) as instant, scope:
                await read(upstream)
                instant.disarm()

            assert upstream.open_calls == 0
            await wait_all_tasks_blocked()
            await census.settled()
        reached = instant.was_reached

    assert steps > 10
