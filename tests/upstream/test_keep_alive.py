"""Which connections are used again, and which are not: one too many costs a handshake, one too few
costs somebody another's answer."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.upstream.calls import REQUEST, read, stream_of, upstream_to
from tests.upstream.engine import (
    DONE,
    HEAD_OF_STREAM,
    LAST_CHUNK,
    Peer,
    Script,
    chunk,
    events,
    play,
    play_and_finish,
    play_each,
    server_context,
    start_engine,
    whole_stream,
)
from trioproxy.testing import TaskCensus
from trioproxy.testing.network import VirtualNetwork
from trioproxy.upstream import Upstream, UpstreamBroken, UpstreamRefused
from trioproxy.upstream.transport import transport
from trioproxy.upstream.transport.pool import IDLE_SECONDS, MAX_IDLE

pytestmark = pytest.mark.usefixtures("without_garbage_collection")

TLS = pytest.mark.parametrize("tls", [None, server_context()], ids=["plain", "tls"])
ANSWER = whole_stream(b"a")


@TLS
async def test_connection_is_used_again_when_its_answer_was_read_to_the_end(
    nursery: trio.Nursery, tls: ssl.SSLContext | None
) -> None:
    engine = await start_engine(nursery, play_each(*[ANSWER] * 3), tls=tls)
    upstream = upstream_to(engine)

    async with upstream.keep_alive():
        answers = [[arrival.data for arrival in await read(upstream)] for _ in range(3)]

    assert answers == [[b"a", b"[DONE]"]] * 3
    assert len(engine.peers) == 1


async def test_connection_is_not_kept_where_nobody_asked_for_it(nursery: trio.Nursery) -> None:
    engine = await start_engine(nursery, play_each(*[ANSWER] * 2))
    upstream = upstream_to(engine)
    with TaskCensus() as census:
        await read(upstream)
        await engine.peers[0].left.wait()
        await census.settled()
        await read(upstream)

        assert len(engine.peers) == 2
        await census.settled()


@TLS
async def test_nothing_is_kept_beyond_the_block(
    nursery: trio.Nursery, tls: ssl.SSLContext | None
) -> None:
    engine = await start_engine(nursery, play_each(*[ANSWER] * 9), tls=tls)
    upstream = upstream_to(engine)
    with TaskCensus() as census:
        async with upstream.keep_alive(), trio.open_nursery() as calls:
            for _ in range(5):
                calls.start_soon(read, upstream)

        await census.settled()


async def test_connection_is_closed_when_it_was_idle_for_too_long(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    with VirtualNetwork():
        engine = await start_engine(nursery, play_each(*[ANSWER] * 9))
        upstream = upstream_to(engine)
        async with upstream.keep_alive():
            await read(upstream)
            await trio.sleep(IDLE_SECONDS - 0.1)
            await read(upstream)
            used_again_at = trio.current_time()
            await engine.peers[0].left.wait()

            assert len(engine.peers) == 1
            assert trio.current_time() - used_again_at == pytest.approx(IDLE_SECONDS)


async def test_no_more_are_kept_than_a_bound(nursery: trio.Nursery) -> None:
    all_there = trio.Event()

    async def answer_together(peer: Peer) -> None:
        await peer.request()
        if len(engine.peers) == MAX_IDLE + 3:
            all_there.set()
        await all_there.wait()
        await peer.send(ANSWER)

    engine = await start_engine(nursery, answer_together)
    upstream = upstream_to(engine)
    async with upstream.keep_alive():
        async with trio.open_nursery() as calls:
            for _ in range(MAX_IDLE + 3):
                calls.start_soon(read, upstream)
        await wait_all_tasks_blocked()
        left = sum(peer.left.is_set() for peer in engine.peers)

    assert left == 3


# -- not used again --------------------------------------------------------------------------------


def length(*headers: bytes, version: bytes = b"1.1") -> bytes:
    lines = [b"HTTP/" + version + b" 500 Oh", b"Content-Length: 2", *headers, b"", b"no"]
    return b"\r\n".join(lines)


async def answer_and_say_more_later(peer: Peer) -> None:
    await play(ANSWER)(peer)
    await wait_all_tasks_blocked()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")


async def answer_and_leave_later(peer: Peer) -> None:
    await play(ANSWER)(peer)
    await wait_all_tasks_blocked()
    peer.finish()


async def answer_and_reset_later(peer: Peer) -> None:
    await play(ANSWER)(peer)
    await wait_all_tasks_blocked()
    peer.reset()


SPENT: dict[str, Script] = {
    "an end behind the answer": play_and_finish(ANSWER),
    "an end a while after it": answer_and_leave_later,
    "a reset a while after it": answer_and_reset_later,
    "another answer behind it": play(ANSWER + ANSWER),
    "another answer behind it, in a write of its own": play(ANSWER, ANSWER),
    "a byte behind it": play(ANSWER + b"H"),
    "another answer a while after it": answer_and_say_more_later,
    "Connection: close": play(length(b"Connection: close")),
    "Connection: close, among others": play(length(b"Connection: x, Close")),
    "HTTP/1.0": play(length(version=b"1.0")),
    "HTTP/1.0 and keep-alive": play(length(b"Connection: keep-alive", version=b"1.0")),
    "a body until the end": play_and_finish(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + DONE
    ),
    "a body that is not whole": play_and_finish(HEAD_OF_STREAM, chunk(DONE)),
    "an interim answer behind it": play(ANSWER + b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@TLS
@pytest.mark.parametrize("script", SPENT.values(), ids=SPENT.keys())
async def test_connection_is_not_used_again_after(
    nursery: trio.Nursery, script: Script, tls: ssl.SSLContext | None
) -> None:
    async def spend_the_first(peer: Peer) -> None:
        await (script if peer is engine.peers[0] else play(ANSWER))(peer)

    engine = await start_engine(nursery, spend_the_first, tls=tls)
    upstream = upstream_to(engine)
    with TaskCensus() as census:
        async with upstream.keep_alive():
            with pytest.MonkeyPatch.context() as patch:
                # It must be seen to be spent beforehand: a retry would hide that it was not.
                patch.setattr(transport, "RETRY_SECONDS", -1.0)
                with suppress(UpstreamRefused, UpstreamBroken):
                    await read(upstream)
                await engine.peers[0].played.wait()
                await wait_all_tasks_blocked()
                second = await read(upstream)

        assert [arrival.data for arrival in second] == [b"a", b"[DONE]"]
        assert len(engine.peers) == 2
        await census.settled()


Spending = Callable[[Upstream], Awaitable[object]]


async def cancel_it(upstream: Upstream) -> None:
    with trio.CancelScope() as scope:
        async with stream_of(upstream) as feed:
            await anext(aiter(feed))
            scope.cancel()
            await trio.lowlevel.checkpoint()


async def leave_it_unread(upstream: Upstream) -> None:
    async with stream_of(upstream):
        pass


@pytest.mark.parametrize("spend", [cancel_it, leave_it_unread])
async def test_connection_is_not_used_again_after_a_call_that_was_left(
    nursery: trio.Nursery, spend: Spending
) -> None:
    async def do_not_end_the_first(peer: Peer) -> None:
        is_first = peer is engine.peers[0]
        rest = [] if is_first else [chunk(DONE), LAST_CHUNK]
        await play(HEAD_OF_STREAM, chunk(events(b"a")), *rest)(peer)

    engine = await start_engine(nursery, do_not_end_the_first)
    upstream = upstream_to(engine)
    async with upstream.keep_alive():
        await spend(upstream)
        await engine.peers[0].left.wait()
        await read(upstream)

    assert len(engine.peers) == 2


async def test_connection_is_not_used_again_after_an_answer_to_half_a_request(
    nursery: trio.Nursery,
) -> None:
    async def refuse_unread(peer: Peer) -> None:
        await peer.head()
        await peer.send(length())

    engine = await start_engine(nursery, refuse_unread)
    upstream = upstream_to(engine)
    async with upstream.keep_alive():
        for _ in range(2):
            with pytest.raises(UpstreamRefused):
                await read(upstream, replace(REQUEST, body=bytes(32 * 1024 * 1024)))

    assert len(engine.peers) == 2


# -- the race: closed at the moment at which it is used --------------------------------------------


def close_at_the_second_request(*, reset: bool, say: bytes = b"", after: float = 0) -> Script:
    """Answer, and end the connection as soon as anything of another request has come."""

    async def answer(peer: Peer) -> None:
        await play(ANSWER)(peer)
        await peer.receive()
        await peer.send(*[say] * bool(say))
        await trio.sleep(after)
        if reset:
            peer.reset()
        else:
            peer.finish()

    return answer


@TLS
@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
async def test_request_that_crossed_the_end_of_its_connection_is_sent_once_more(
    nursery: trio.Nursery, tls: ssl.SSLContext | None, reset: bool
) -> None:
    close_the_first = close_at_the_second_request(reset=reset)

    async def answer(peer: Peer) -> None:
        await (close_the_first if peer is engine.peers[0] else play(ANSWER))(peer)

    engine = await start_engine(nursery, answer, tls=tls)
    upstream = upstream_to(engine)
    async with upstream.keep_alive():
        await read(upstream)
        second = await read(upstream)

    assert [arrival.data for arrival in second] == [b"a", b"[DONE]"]
    assert len(engine.peers) == 2


@pytest.mark.parametrize(
    "script",
    [
        close_at_the_second_request(reset=False, say=b"H"),
        close_at_the_second_request(reset=True, after=transport.RETRY_SECONDS + 0.1),
    ],
    ids=["an answer had begun", "it took too long"],
)
async def test_request_that_an_engine_may_have_begun_is_not_sent_twice(
    nursery: trio.Nursery, script: Script, autojump_clock: MockClock
) -> None:
    with VirtualNetwork():
        engine = await start_engine(nursery, script)
        upstream = upstream_to(engine)
        async with upstream.keep_alive():
            await read(upstream)
            with pytest.raises(UpstreamBroken):
                await read(upstream)

    assert len(engine.peers) == 1


async def test_request_is_not_sent_a_third_time(nursery: trio.Nursery) -> None:
    async def answer(peer: Peer) -> None:
        if peer is engine.peers[0]:
            await close_at_the_second_request(reset=False)(peer)
        else:
            await peer.request()
            peer.finish()

    engine = await start_engine(nursery, answer)
    upstream = upstream_to(engine)
    async with upstream.keep_alive():
        await read(upstream)
        with pytest.raises(UpstreamBroken, match="without an answer"):
            await read(upstream)

    assert len(engine.peers) == 2


async def test_request_on_a_new_connection_is_sent_once(nursery: trio.Nursery) -> None:
    engine = await start_engine(nursery, play_and_finish())

    with pytest.raises(UpstreamBroken, match="without an answer"):
        await read(upstream_to(engine))

    assert len(engine.peers) == 1
