"""An answer that is not the stream which was asked for: kept and told as it is, never followed,
never read without end."""

from __future__ import annotations

import pytest
import trio

from tests.upstream.calls import generate, read, stream_of, upstream_to, whole_of
from tests.upstream.engine import (
    HEAD_OF_STREAM,
    LAST_CHUNK,
    Peer,
    chunk,
    play,
    play_and_finish,
    start_engine,
    whole_stream,
)
from trioproxy.fanout import Outcome, failed
from trioproxy.testing import TaskCensus
from trioproxy.upstream import (
    Head,
    UpstreamNotStreaming,
    UpstreamRefused,
)
from trioproxy.upstream.upstream import MAX_REFUSAL_BYTES


def answer(status: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    """An answer whose body has a length."""
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])


CHUNKED = b"HTTP/1.1 429 Slow Down\r\nTransfer-Encoding: chunked\r\n\r\n"

REFUSALS: dict[str, tuple[list[bytes], int, bytes]] = {
    "a body with a length": (
        [answer(b"400 Bad Request", body=b'{"error":1}')],
        400,
        b'{"error":1}',
    ),
    "no body": ([answer(b"503 Busy")], 503, b""),
    "chunks": ([CHUNKED, chunk(b"slow "), chunk(b"down"), LAST_CHUNK], 429, b"slow down"),
    "a status that nobody knows": ([answer(b"799 What", body=b"?")], 799, b"?"),
    "no content": ([b"HTTP/1.1 304 Not Modified\r\n\r\n"], 304, b""),
    "a body as long as is kept": (
        [answer(b"500 Oh", body=bytes(MAX_REFUSAL_BYTES))],
        500,
        bytes(MAX_REFUSAL_BYTES),
    ),
    "a body longer than is kept": (
        [answer(b"500 Oh", body=b"a" * MAX_REFUSAL_BYTES + b"b" * 200_000)],
        500,
        b"a" * MAX_REFUSAL_BYTES,
    ),
    "a stream of events": (
        [whole_stream(b"a").replace(b"200 OK", b"500 Oh")],
        500,
        b"data: a\n\ndata: [DONE]\n\n",
    ),
}


@pytest.mark.parametrize("made_by", ["stream", "whole"])
@pytest.mark.parametrize(("segments", "status", "body"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_refusal_is_kept_as_it_came(
    nursery: trio.Nursery, segments: list[bytes], status: int, body: bytes, made_by: str
) -> None:
    engine = await start_engine(nursery, play(*segments))
    upstream = upstream_to(engine)
    source = whole_of(upstream) if made_by == "whole" else stream_of(upstream)
    with TaskCensus() as census:
        with pytest.raises(UpstreamRefused) as refusal:
            await source.__aenter__()

        assert (refusal.value.status, refusal.value.body) == (status, body)
        assert upstream.open_calls == 0
        await census.settled()


async def test_refusal_has_the_upstreams_headers(nursery: trio.Nursery) -> None:
    engine = await start_engine(
        nursery,
        play(answer(b"429 Slow Down", b"Retry-After: 7", b"X-A: 1", b"x-a: 2", body=b"no")),
    )

    with pytest.raises(UpstreamRefused) as refusal:
        await read(upstream_to(engine))

    assert refusal.value.headers == [
        (b"content-length", b"2"),
        (b"retry-after", b"7"),
        (b"x-a", b"1"),
        (b"x-a", b"2"),
    ]


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"307 There", b"308 Gone"])
async def test_redirect_is_a_refusal_and_not_followed(nursery: trio.Nursery, status: bytes) -> None:
    elsewhere = await start_engine(nursery, play(whole_stream()))
    engine = await start_engine(
        nursery, play(answer(status, b"Location: %b/v1" % elsewhere.url().encode()))
    )

    with pytest.raises(UpstreamRefused) as refusal:
        await read(upstream_to(engine))

    assert refusal.value.status == int(status[:3])
    assert (len(engine.peers), len(elsewhere.peers)) == (1, 0)


async def test_refusal_that_floods_is_read_no_further_than_it_is_kept(
    nursery: trio.Nursery,
) -> None:
    flood = chunk(bytes(65536))
    sent = 0

    async def send_without_end(peer: Peer) -> None:
        nonlocal sent
        await play(CHUNKED)(peer)
        while True:
            await peer.send(flood)
            sent += 65536

    engine = await start_engine(nursery, send_without_end)
    upstream = upstream_to(engine)
    with TaskCensus() as census:
        with pytest.raises(UpstreamRefused) as refusal:
            await read(upstream)

        assert len(refusal.value.body) == MAX_REFUSAL_BYTES
        await engine.peers[0].left.wait()
        await census.settled()


async def test_refusal_whose_body_breaks_off_keeps_its_status(nursery: trio.Nursery) -> None:
    engine = await start_engine(nursery, play_and_finish(CHUNKED, chunk(b"slow ")))

    with pytest.raises(UpstreamRefused) as refusal:
        await read(upstream_to(engine))

    assert (refusal.value.status, refusal.value.body) == (429, b"slow ")


async def test_generation_keeps_the_refusal_for_whoever_waits(nursery: trio.Nursery) -> None:
    engine = await start_engine(nursery, play(answer(b"429 Slow Down", body=b"no")))
    upstream = upstream_to(engine)

    reading = await generate(stream_of(upstream))

    assert reading.end == failed("refused")
    assert isinstance(reading.end, Outcome)
    assert isinstance(reading.end.error, UpstreamRefused)
    assert (reading.end.error.status, reading.end.error.body) == (429, b"no")


NO_STREAMS: dict[str, tuple[list[bytes], str]] = {
    "JSON": (
        [answer(b"200 OK", b"Content-Type: application/json", body=b"{}")],
        "application/json",
    ),
    "JSON that never ends": (
        [HEAD_OF_STREAM.replace(b"text/event-stream", b"application/json"), chunk(b"{")],
        "application/json",
    ),
    "another kind of text": (
        [answer(b"200 OK", b"Content-Type: text/event-streams", body=b"data: a\n\n")],
        "text/event-streams",
    ),
    "no type": ([answer(b"200 OK", body=b"data: a\n\n")], "an untyped body"),
    "no content": ([b"HTTP/1.1 204 No Content\r\n\r\n"], "an untyped body"),
}


@pytest.mark.parametrize(("segments", "told"), NO_STREAMS.values(), ids=NO_STREAMS.keys())
async def test_streaming_call_that_is_answered_with_no_stream_fails(
    nursery: trio.Nursery, segments: list[bytes], told: str
) -> None:
    engine = await start_engine(nursery, play(*segments))
    upstream = upstream_to(engine)
    with TaskCensus() as census:
        with pytest.raises(UpstreamNotStreaming, match=f"{told} instead of text/event-stream"):
            await read(upstream)

        assert upstream.open_calls == 0
        await census.settled()


@pytest.mark.parametrize(
    "media_type",
    [
        b"text/event-stream",
        b"text/event-stream; charset=utf-8",
        b"text/event-stream;charset=UTF-8",
        b"Text/Event-Stream ;x=y",
    ],
)
async def test_stream_is_known_by_its_media_type(nursery: trio.Nursery, media_type: bytes) -> None:
    stream = whole_stream(b"a").replace(b"text/event-stream; charset=utf-8", media_type)
    engine = await start_engine(nursery, play(stream))

    arrivals = await read(upstream_to(engine))

    assert [arrival.data for arrival in arrivals] == [b"a", b"[DONE]"]


@pytest.mark.parametrize("status", [b"200 OK", b"201 Created", b"299 Fine"])
async def test_any_success_may_carry_the_stream(nursery: trio.Nursery, status: bytes) -> None:
    engine = await start_engine(nursery, play(whole_stream(b"a").replace(b"200 OK", status)))

    async with stream_of(upstream_to(engine)) as feed:
        assert isinstance(feed.head, Head)
        assert feed.head.status == int(status[:3])
