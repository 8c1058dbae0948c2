"""A call that is cancelled at any of its steps, or whose I/O fails at any: nothing is left, no
place is lost, and the next call is answered as if nothing had been."""

from __future__ import annotations

import errno
import os
import ssl
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial

import pytest
import trio

from tests.exhaustive.tally import tally
from tests.upstream.calls import REQUEST, read, upstream_to
from tests.upstream.engine import (
    DONE,
    HEAD_OF_STREAM,
    LAST_CHUNK,
    Peer,
    Script,
    chunk,
    events,
    play,
    play_each,
    server_context,
    start_engine,
    whole_stream,
)
from trioproxy.fanout import SourceFailed
from trioproxy.testing import Trial, cancel_at_every_checkpoint, fail_at_every_io
from trioproxy.testing.network import VirtualNetwork
from trioproxy.upstream import UpstreamRequest

ANSWER = whole_stream(b"a")
LARGE = replace(REQUEST, body=bytes(200_000))


async def answer_slowly(peer: Peer) -> None:
    await peer.request()
    for segment in (HEAD_OF_STREAM[:30], HEAD_OF_STREAM[30:], chunk(events(b"a")), chunk(DONE)):
        await peer.send(segment)
        await trio.sleep(1)
    await peer.send(LAST_CHUNK)


async def refuse_half_a_request(peer: Peer) -> None:
    await peer.head()
    await peer.send(b"HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\n\r\n")
    await trio.sleep(1)
    await peer.send(b"no")


async def close_when_used_again(peer: Peer) -> None:
    await play(ANSWER)(peer)
    await peer.receive()
    peer.finish()


# How the engine answers the calls that are struck, what is asked, how many calls are made in a row.
PHASES: dict[str, tuple[Script, UpstreamRequest, int]] = {
    "at once": (play_each(ANSWER), REQUEST, 1),
    "in pieces": (answer_slowly, REQUEST, 1),
    "a large request": (play_each(ANSWER), LARGE, 1),
    "a large request, refused": (refuse_half_a_request, LARGE, 1),
    "again": (play_each(ANSWER, ANSWER, ANSWER), REQUEST, 2),
    "again, and closed": (close_when_used_again, REQUEST, 2),
}


async def call(phase: str, tls: ssl.SSLContext | None, trial: Trial) -> None:
    script, request, calls = PHASES[phase]
    is_over = False

    async def until_it_is_over(peer: Peer) -> None:
        await (play_each(ANSWER) if is_over else script)(peer)

    with VirtualNetwork(on_io=trial.io) as network:
        async with trio.open_nursery() as nursery:
            engine = await start_engine(nursery, until_it_is_over, tls=tls)
            upstream = upstream_to(engine, max_calls=1)

            def client_ends() -> int:
                return sum(end.remote[1] == engine.port for end in network.open_endpoints)

            async with AsyncExitStack() as keeping:
                if calls > 1:
                    await keeping.enter_async_context(upstream.keep_alive())
                with trial.target(), suppress(SourceFailed):
                    for _ in range(calls):
                        await read(upstream, request)
                assert upstream.open_calls == 0
                assert client_ends() <= (calls > 1)
            assert client_ends() == 0
            is_over = True
            with trio.fail_after(1):
                assert [arrival.data for arrival in await read(upstream)] == [b"a", b"[DONE]"]
            await trio.sleep(5)  # an engine that sleeps wakes up, and sees that nobody is there
            assert list(network.open_endpoints) == []
            nursery.cancel_scope.cancel()


TLS = pytest.mark.parametrize("tls", [None, server_context()], ids=["plain", "tls"])
EACH_PHASE = pytest.mark.parametrize("phase", PHASES)


def aborted() -> OSError:
    return ConnectionAbortedError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))


@TLS
@EACH_PHASE
def test_cancelled_at_any_step_a_call_leaves_nothing(
    phase: str, tls: ssl.SSLContext | None
) -> None:
    tally.checkpoints += cancel_at_every_checkpoint(partial(call, phase, tls))


@TLS
@EACH_PHASE
def test_failing_at_any_io_a_call_leaves_nothing(phase: str, tls: ssl.SSLContext | None) -> None:
    tally.faults += fail_at_every_io(partial(call, phase, tls), error=aborted)
