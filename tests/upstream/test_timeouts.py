"""How long the upstream may take for what, and which failure it is when it takes longer."""

from __future__ import annotations

import math
from dataclasses import replace

import httpx
import pytest
import trio
from trio.testing import MockClock

from tests.upstream.calls import REQUEST, generate, read, stream_of, upstream_to, whole_of
from tests.upstream.clockwork import TimedAnswer
from tests.upstream.engine import (
    DONE,
    HEAD_OF_STREAM,
    LAST_CHUNK,
    WITHIN,
    Peer,
    Script,
    chunk,
    events,
    play,
    start_engine,
    whole_stream,
)
from tests.upstream.nowhere import StuckResolver, listen_in_vain
from trioproxy.fanout import COMPLETED, SourceFailed, failed
from trioproxy.testing import TaskCensus
from trioproxy.upstream import (
    Timeouts,
    Upstream,
    UpstreamRefused,
    UpstreamRequest,
    UpstreamSilent,
    UpstreamUnreachable,
)
from trioproxy.upstream.feed import STRIDE
from trioproxy.upstream.upstream import REFUSAL_SECONDS

FOR_EVER = 1e9
"""Seconds: for ever, and still an end to a test that waits in vain."""

PING = (1.0, b": still there\n\n")
HALF_AN_EVENT = (1.0, b"data: a\n")
A = events(b"a")
HTTP, HTTPS = "http", "https"


# -- in time, by a mocked clock --------------------------------------------------------------------


IN_TIME = {
    "the head late": TimedAnswer([(0, A), (0, DONE)], head_after=9),
    "the first event late": TimedAnswer([(9, A), (0, DONE)]),
    "head and first event, each a little late": TimedAnswer([(4, A), (0, DONE)], head_after=5),
    "pings before the first event": TimedAnswer([PING] * 9 + [(0, A), (0, DONE)]),
    "the next event late": TimedAnswer([(0, A), (4, DONE)]),
    "far more events than the first may take": TimedAnswer([(4, A)] * 20 + [(4, DONE)]),
    "pings before the next event": TimedAnswer([(0, A), *[PING] * 4, (0, DONE)]),
}


@pytest.mark.parametrize("answer", IN_TIME.values(), ids=IN_TIME.keys())
async def test_answer_in_time_is_read_whole(
    answer: TimedAnswer, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    answer.install(monkeypatch)
    upstream = Upstream("http://engine.test", timeouts=Timeouts(first_token=10, inter_token=5))

    arrivals = await read(upstream)

    assert arrivals[-1].decides == COMPLETED


TOO_LATE = {
    "no head": (TimedAnswer([], head_after=FOR_EVER), 10),
    "no first event": (TimedAnswer([(FOR_EVER, A)]), 10),
    "head and first event, together too late": (TimedAnswer([(6, A)], head_after=5), 10),
    "pings and no first event": (TimedAnswer([PING] * 99), 10),
    "half a first event": (TimedAnswer([HALF_AN_EVENT] * 99), 10),
    "no next event": (TimedAnswer([(1, A), (3, A), (FOR_EVER, A)]), 9),
    "pings and no next event": (TimedAnswer([(1, A), *[PING] * 99]), 6),
    "half a next event": (TimedAnswer([(1, A), *[HALF_AN_EVENT] * 99]), 6),
    "no end after the terminal event": (TimedAnswer([(1, DONE), (FOR_EVER, A)]), 6),
}


@pytest.mark.parametrize(("answer", "seconds"), TOO_LATE.values(), ids=TOO_LATE.keys())
async def test_answer_that_takes_too_long_is_given_up_in_time(
    answer: TimedAnswer,
    seconds: float,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
) -> None:
    answer.install(monkeypatch)
    upstream = Upstream("http://engine.test", timeouts=Timeouts(first_token=10, inter_token=5))
    called_at = trio.current_time()

    with pytest.raises(UpstreamSilent):
        await read(upstream)

    late = trio.current_time() - called_at - seconds
    assert -1e-6 < late <= STRIDE * 5 + 1e-6
    assert upstream.open_calls == 0


async def test_answer_that_is_no_stream_has_one_deadline_for_all_of_it(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    TimedAnswer([(4, b"{")] * 9, head_after=1).install(monkeypatch)
    upstream = Upstream("http://engine.test", timeouts=Timeouts(first_token=10, inter_token=5))
    called_at = trio.current_time()

    reading = await generate(whole_of(upstream))

    assert (reading.data, reading.end) == ([b"{", b"{"], failed("timeout"))
    assert trio.current_time() - called_at == 10


@pytest.mark.parametrize(
    ("first_token", "body", "seconds"), [(10, b"no no ", 1 + REFUSAL_SECONDS), (2, b"no ", 2)]
)
async def test_refusal_that_never_ends_is_cut_soon(
    first_token: float,
    body: bytes,
    seconds: float,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
) -> None:
    TimedAnswer([(0.75, b"no ")] * 99, head_after=1, status=503).install(monkeypatch)
    timeouts = Timeouts(first_token=first_token, inter_token=5)
    upstream = Upstream("http://engine.test", timeouts=timeouts)
    called_at = trio.current_time()

    with pytest.raises(UpstreamRefused) as refusal:
        await read(upstream)

    assert (refusal.value.status, refusal.value.body) == (503, body)
    assert trio.current_time() - called_at == seconds


@pytest.mark.parametrize("gap", [7.0, 119.0])
async def test_gap_that_a_slow_engine_makes_is_no_failure_by_default(
    gap: float, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    TimedAnswer([(0, A), (gap, A), (gap, DONE)], head_after=590).install(monkeypatch)

    arrivals = await read(Upstream("http://engine.test"))

    assert [arrival.data for arrival in arrivals] == [b"a", b"a", b"[DONE]"]


async def test_limit_may_be_infinite(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    TimedAnswer([(1e6, A), (1e6, DONE)], head_after=1e6).install(monkeypatch)
    patience = Timeouts(first_token=math.inf, inter_token=math.inf)

    arrivals = await read(Upstream("http://engine.test", timeouts=patience))

    assert [arrival.data for arrival in arrivals] == [b"a", b"[DONE]"]


# -- on real sockets, by short timeouts ------------------------------------------------------------


BRIEFLY = 0.15
"""Seconds: short, and yet enough for a loaded machine to connect and to send what is asked."""


async def accept(peer: Peer) -> None:
    assert not peer.received


SILENCES: dict[str, tuple[Script, str, Timeouts, type[SourceFailed]]] = {
    "in the TLS handshake": (accept, HTTPS, Timeouts(connect=BRIEFLY), UpstreamUnreachable),
    "in the TLS handshake, to the first token's deadline": (
        accept,
        HTTPS,
        Timeouts(first_token=BRIEFLY),
        UpstreamSilent,
    ),
    "before the head": (play(), HTTP, Timeouts(first_token=BRIEFLY), UpstreamSilent),
    "before the first event": (
        play(HEAD_OF_STREAM),
        HTTP,
        Timeouts(first_token=BRIEFLY),
        UpstreamSilent,
    ),
    "between events": (
        play(HEAD_OF_STREAM, chunk(A)),
        HTTP,
        Timeouts(inter_token=BRIEFLY),
        UpstreamSilent,
    ),
    "in the middle of an event": (
        play(HEAD_OF_STREAM, chunk(A + b"data: ")),
        HTTP,
        Timeouts(inter_token=BRIEFLY),
        UpstreamSilent,
    ),
}


@pytest.mark.parametrize(
    ("script", "scheme", "timeouts", "error"), SILENCES.values(), ids=SILENCES.keys()
)
async def test_silence_ends_the_call_and_its_connection(
    nursery: trio.Nursery,
    script: Script,
    scheme: str,
    timeouts: Timeouts,
    error: type[SourceFailed],
) -> None:
    engine = await start_engine(nursery, script)
    upstream = upstream_to(engine, url=engine.url(scheme), timeouts=timeouts)
    with TaskCensus() as census:
        with pytest.raises(error):
            await read(upstream)

        assert upstream.open_calls == 0
        await engine.peers[0].left.wait()
        await census.settled()


async def test_engine_that_does_not_take_the_request_is_silent(nursery: trio.Nursery) -> None:
    may_read = trio.Event()
    request = replace(REQUEST, body=bytes(32 * 1024 * 1024))

    async def read_late(peer: Peer) -> None:
        await may_read.wait()

    engine = await start_engine(nursery, read_late)
    upstream = upstream_to(engine, timeouts=Timeouts(first_token=BRIEFLY))
    with TaskCensus() as census:
        with pytest.raises(UpstreamSilent):
            await read(upstream, request)

        may_read.set()
        await engine.peers[0].left.wait()
        await census.settled()


async def test_host_that_does_not_answer_is_unreachable() -> None:
    with listen_in_vain() as url:
        upstream = Upstream(url, timeouts=Timeouts(connect=BRIEFLY))
        with TaskCensus():
            with trio.fail_after(WITHIN), pytest.raises(UpstreamUnreachable):
                await read(upstream)

            assert upstream.open_calls == 0


async def test_name_that_does_not_resolve_in_time_is_unreachable() -> None:
    trio.socket.set_custom_hostname_resolver(StuckResolver())
    upstream = Upstream("http://engine.test", timeouts=Timeouts(connect=BRIEFLY))
    with TaskCensus():
        with trio.fail_after(WITHIN), pytest.raises(UpstreamUnreachable):
            await read(upstream)

        assert upstream.open_calls == 0


@pytest.mark.parametrize(
    ("script", "timeouts", "reason"),
    [
        (accept, Timeouts(connect=BRIEFLY), "unreachable"),
        (accept, Timeouts(first_token=BRIEFLY), "timeout"),
    ],
)
async def test_generation_tells_silence_as_its_failure(
    nursery: trio.Nursery, script: Script, timeouts: Timeouts, reason: str
) -> None:
    engine = await start_engine(nursery, script)
    upstream = upstream_to(engine, url=engine.url(HTTPS), timeouts=timeouts)

    reading = await generate(stream_of(upstream))

    assert (reading.data, reading.end) == ([], failed(reason))


# -- and nothing of httpx's own --------------------------------------------------------------------


@pytest.mark.parametrize("connect", [3.0, math.inf])
async def test_httpx_times_nothing_but_the_connecting_to_a_proxy(
    nursery: trio.Nursery, connect: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts: list[object] = []
    handle = httpx.AsyncHTTPTransport.handle_async_request

    async def note_and_handle(
        transport: httpx.AsyncHTTPTransport, request: httpx.Request
    ) -> httpx.Response:
        timeouts.append(request.extensions["timeout"])
        return await handle(transport, request)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", note_and_handle)
    engine = await start_engine(nursery, play(whole_stream()))
    monkeypatch.setenv("ALL_PROXY", engine.url())

    await read(upstream_to(engine, timeouts=Timeouts(connect=connect), trust_env=True))

    assert timeouts == [{"connect": connect, "read": None, "write": None, "pool": None}]


async def test_gaps_longer_than_any_default_of_httpx_are_no_failure(nursery: trio.Nursery) -> None:
    gap = 5.5

    async def answer(peer: Peer) -> None:
        where = int((await peer.request()).split(b" ")[1].removeprefix(b"/"))
        parts = [HEAD_OF_STREAM, chunk(A), chunk(DONE) + LAST_CHUNK]
        for number, part in enumerate(parts):
            await trio.sleep(gap if number == where else 0)
            await peer.send(part)

    async def call(number: int) -> None:
        request = UpstreamRequest("GET", b"/%d" % number, [], b"")
        lengths[number] = len(await read(upstream, request))

    engine = await start_engine(nursery, answer)
    upstream = upstream_to(engine)
    lengths: dict[int, int] = {}
    async with trio.open_nursery() as calls:
        for number in range(3):
            calls.start_soon(call, number)

    assert lengths == {0: 2, 1: 2, 2: 2}
