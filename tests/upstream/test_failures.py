"""What an upstream can do wrong, and which failure each becomes."""

from __future__ import annotations

import socket

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.upstream.calls import generate, read, stream_of, upstream_to
from tests.upstream.engine import (
    DONE,
    HEAD_OF_STREAM,
    Peer,
    Script,
    chunk,
    events,
    play,
    play_and_finish,
    server_context,
    start_engine,
    whole_stream,
)
from tests.upstream.nowhere import UnknownName
from trioproxy.fanout import COMPLETED, SourceFailed, failed
from trioproxy.testing import TaskCensus
from trioproxy.upstream import (
    Upstream,
    UpstreamBroken,
    UpstreamNotStreaming,
    UpstreamRefused,
    UpstreamSilent,
    UpstreamUnreachable,
)

A = chunk(events(b"a"))


def play_and_reset(*segments: bytes) -> Script:
    """Answer, and reset the connection once the client has had the time to read."""

    async def answer(peer: Peer) -> None:
        await play(*segments)(peer)
        await wait_all_tasks_blocked()
        peer.reset()

    return answer


async def finish_at_once(peer: Peer) -> None:
    peer.finish()


async def reset_at_once(peer: Peer) -> None:
    peer.reset()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UpstreamUnreachable("why"), "unreachable"),
        (UpstreamSilent("why"), "timeout"),
        (UpstreamBroken("why"), "broken"),
        (UpstreamNotStreaming("why"), "not_a_stream"),
        (UpstreamRefused(503, [], b""), "refused"),
    ],
)
def test_each_failure_has_its_one_word(error: SourceFailed, reason: str) -> None:
    assert reason == error.reason


# -- no connection ---------------------------------------------------------------------------------


async def test_refused_connection_makes_the_upstream_unreachable() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        upstream = Upstream("http://{}:{}".format(*unheard.getsockname()))
        with TaskCensus():
            with pytest.raises(UpstreamUnreachable):
                await read(upstream)

            assert upstream.open_calls == 0


async def test_unknown_name_makes_the_upstream_unreachable() -> None:
    trio.socket.set_custom_hostname_resolver(UnknownName())
    upstream = Upstream("http://engine.test")

    with pytest.raises(UpstreamUnreachable, match="Name or service not known"):
        await read(upstream)

    assert upstream.open_calls == 0


NO_TLS: dict[str, Script] = {
    "garbage": play(b"HTTP/1.1 400 This is no TLS\r\n\r\n"),
    "a FIN": finish_at_once,
    "a reset": reset_at_once,
}


@pytest.mark.parametrize("script", NO_TLS.values(), ids=NO_TLS.keys())
async def test_tls_that_fails_makes_the_upstream_unreachable(
    nursery: trio.Nursery, script: Script
) -> None:
    async def answer_the_first_bytes(peer: Peer) -> None:
        await peer.receive()
        peer.received += b"\r\n\r\n"  # whatever it was, it was all
        await script(peer)

    engine = await start_engine(nursery, answer_the_first_bytes)
    upstream = upstream_to(engine, url=engine.url("https"))
    with TaskCensus() as census:
        with pytest.raises(UpstreamUnreachable):
            await read(upstream)

        assert upstream.open_calls == 0
        await census.settled()


async def test_certificate_that_is_not_trusted_makes_the_upstream_unreachable(
    nursery: trio.Nursery,
) -> None:
    engine = await start_engine(nursery, play(whole_stream()), tls=server_context())

    with pytest.raises(UpstreamUnreachable, match="certificate verify failed"):
        await read(Upstream(engine.url()))

    await engine.peers[0].left.wait()
    assert engine.peers[0].received == b""


async def test_certificate_of_another_host_makes_the_upstream_unreachable(
    nursery: trio.Nursery,
) -> None:
    engine = await start_engine(nursery, play(whole_stream()), tls=server_context())

    with pytest.raises(UpstreamUnreachable, match="certificate is not valid for 'localhost'"):
        await read(upstream_to(engine, url=engine.url(host="localhost")))

    await engine.peers[0].left.wait()
    assert engine.peers[0].received == b""


# -- no answer, or a broken one --------------------------------------------------------------------


BROKEN: dict[str, Script] = {
    "a FIN in place of an answer": finish_at_once,
    "a FIN after the request": play_and_finish(),
    "a reset after the request": play_and_reset(),
    "a FIN inside the head": play_and_finish(HEAD_OF_STREAM[:50]),
    "a reset inside the head": play_and_reset(HEAD_OF_STREAM[:50]),
    "garbage in place of a head": play(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "a head without end": play(b"HTTP/1.1 200 OK\r\n", b"X-A: " + bytes(200_000)),
    "a switch of protocols that nobody asked for": play(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"
    ),
    "a reset after the head": play_and_reset(HEAD_OF_STREAM),
    "a FIN after the head": play_and_finish(HEAD_OF_STREAM),
    "a reset between events": play_and_reset(HEAD_OF_STREAM, A),
    "a FIN between events": play_and_finish(HEAD_OF_STREAM, A),
    "a FIN inside a chunk": play_and_finish(HEAD_OF_STREAM, A, b"20\r\ndata: b"),
    "a reset inside a chunk": play_and_reset(HEAD_OF_STREAM, A, b"20\r\ndata: b"),
    "garbage in place of a chunk": play(HEAD_OF_STREAM, A, b"no number\r\n"),
    "a body shorter than its length": play_and_finish(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 999\r\n\r\n",
        events(b"a"),
    ),
    "a reset of a body without a length": play_and_reset(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", events(b"a")
    ),
}


@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN.keys())
async def test_answer_that_breaks_off_is_broken(nursery: trio.Nursery, script: Script) -> None:
    engine = await start_engine(nursery, script)
    upstream = upstream_to(engine)
    with TaskCensus() as census:
        with pytest.raises(UpstreamBroken):
            await read(upstream)

        assert upstream.open_calls == 0
        await census.settled()


async def test_generation_keeps_what_came_before_its_upstream_broke(nursery: trio.Nursery) -> None:
    engine = await start_engine(nursery, play_and_reset(HEAD_OF_STREAM, A, A, b"20\r\ndata: b"))
    upstream = upstream_to(engine)

    reading = await generate(stream_of(upstream))

    assert (reading.data, reading.end) == ([b"a", b"a"], failed("broken"))


async def test_answer_that_breaks_off_behind_its_terminal_event_is_complete(
    nursery: trio.Nursery,
) -> None:
    engine = await start_engine(nursery, play_and_finish(HEAD_OF_STREAM, A, chunk(DONE)))
    upstream = upstream_to(engine)

    reading = await generate(stream_of(upstream))

    assert reading.data == [b"a", b"[DONE]"]
    assert reading.end == COMPLETED


INTERIM = [
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n",
]


@pytest.mark.parametrize("interim", INTERIM)
async def test_interim_responses_are_passed_over(nursery: trio.Nursery, interim: bytes) -> None:
    engine = await start_engine(nursery, play(interim, whole_stream(b"a")))

    arrivals = await read(upstream_to(engine))

    assert [arrival.data for arrival in arrivals] == [b"a", b"[DONE]"]
