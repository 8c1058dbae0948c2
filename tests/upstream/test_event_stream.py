"""A stream as the engine sends it, and the generation that comes of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.reading import Reading, read_to_end
from tests.upstream.calls import generate, stream_of, upstream_to
from tests.upstream.engine import (
    DONE,
    HEAD_OF_STREAM,
    LAST_CHUNK,
    Script,
    chunk,
    events,
    play,
    play_and_finish,
    start_engine,
    whole_stream,
)
from trioproxy.fanout import COMPLETED, Event, Outcome, failed, generation, open_hub
from trioproxy.testing import TaskCensus

BOM = b"\xef\xbb\xbf"
ERROR = b'{"error": {"message": "out of memory"}}'
USAGE = b'{"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}'


# Each: the body, the events that are told, the outcome.
STREAMS: dict[str, tuple[bytes, list[bytes], Outcome]] = {
    "events in LF": (events(b"a") + DONE, [b"a", b"[DONE]"], COMPLETED),
    "events in CR": (b"data: a\r\rdata: [DONE]\r\r", [b"a", b"[DONE]"], COMPLETED),
    "events in CRLF": (b"data: a\r\n\r\ndata: [DONE]\r\n\r\n", [b"a", b"[DONE]"], COMPLETED),
    "line separators that are content": (
        b'data: "\xe2\x80\xa8\xe2\x80\xa9\xc2\x85\x0b\x0c\x1c\x1d\x1e"\n\n' + DONE,
        [b'"\xe2\x80\xa8\xe2\x80\xa9\xc2\x85\x0b\x0c\x1c\x1d\x1e"', b"[DONE]"],
        COMPLETED,
    ),
    "a byte order mark": (BOM + events(b"a") + DONE, [b"a", b"[DONE]"], COMPLETED),
    "comments": (b": hi\n\n" + events(b"a") + b":\n\n" + DONE, [b"a", b"[DONE]"], COMPLETED),
    "data of several lines": (b"data: a\ndata: b\n\n" + DONE, [b"a\nb", b"[DONE]"], COMPLETED),
    "nothing but the end": (DONE, [b"[DONE]"], COMPLETED),
    "usage before the end": (events(b"a", USAGE) + DONE, [b"a", USAGE, b"[DONE]"], COMPLETED),
    "events behind the end": (events(b"a") + DONE + events(b"b"), [b"a", b"[DONE]"], COMPLETED),
    "garbage behind the end": (DONE + bytes(range(256)), [b"[DONE]"], COMPLETED),
    "a failure told": (events(b"a", ERROR), [b"a", ERROR], failed("upstream_error")),
    "a failure told, and an end behind it": (
        events(ERROR) + DONE,
        [ERROR],
        failed("upstream_error"),
    ),
    "the end without its blank line": (events(b"a") + DONE[:-1], [b"a", b"[DONE]"], COMPLETED),
    "the end without its line end": (events(b"a") + DONE[:-2], [b"a", b"[DONE]"], COMPLETED),
    "a failure without its blank line": (
        events(b"a") + b"data: %b\n" % ERROR,
        [b"a", ERROR],
        failed("upstream_error"),
    ),
    "no end": (events(b"a", b"b"), [b"a", b"b"], failed("truncated")),
    "no end and half an event": (events(b"a") + b"data: b\n", [b"a"], failed("truncated")),
    "half an end": (events(b"a") + b"data: [DO", [b"a"], failed("truncated")),
    "only comments": (b": hi\n\n: hi\n\n", [], failed("truncated")),
    "nothing": (b"", [], failed("truncated")),
}


def in_one_segment(body: bytes) -> Script:
    """One chunk, one segment: head, body, end."""
    return play(HEAD_OF_STREAM + (chunk(body) if body else b"") + LAST_CHUNK)


def byte_by_byte(body: bytes) -> Script:
    """One chunk for each byte, one segment for each byte of these."""
    wire = b"".join(chunk(body[i : i + 1]) for i in range(len(body))) + LAST_CHUNK
    return play(HEAD_OF_STREAM, *(wire[i : i + 1] for i in range(len(wire))))


def of_a_length(body: bytes) -> Script:
    """A body with a Content-Length."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
    return play(head % len(body) + body)


def until_the_close(body: bytes) -> Script:
    """A body that ends with the connection."""
    return play_and_finish(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + body)


@pytest.mark.parametrize("framing", [in_one_segment, byte_by_byte, of_a_length, until_the_close])
@pytest.mark.parametrize(("body", "data", "end"), STREAMS.values(), ids=STREAMS.keys())
async def test_stream_makes_the_same_generation_however_it_is_framed(
    nursery: trio.Nursery,
    body: bytes,
    data: list[bytes],
    end: Outcome,
    framing: Callable[[bytes], Script],
) -> None:
    engine = await start_engine(nursery, framing(body))
    upstream = upstream_to(engine)

    reading = await generate(stream_of(upstream))

    assert (reading.data, reading.end) == (data, end)
    assert upstream.open_calls == 0


async def test_failure_that_the_upstream_told_needs_no_second_telling(
    nursery: trio.Nursery,
) -> None:
    engine = await start_engine(nursery, in_one_segment(events(ERROR)))

    reading = await generate(stream_of(upstream_to(engine)))

    assert isinstance(reading.end, Outcome)
    assert reading.end.told


async def test_names_of_events_are_kept(nursery: trio.Nursery) -> None:
    engine = await start_engine(nursery, in_one_segment(b"event: ping\ndata: a\n\n" + DONE))

    reading = await generate(stream_of(upstream_to(engine)))

    assert [event.name for event in reading.told if isinstance(event, Event)] == [b"ping", None]


async def test_burst_of_events_in_one_segment_is_read_whole(nursery: trio.Nursery) -> None:
    data = [b"%d" % number for number in range(500)]
    engine = await start_engine(nursery, play(whole_stream(*data)))

    reading = await generate(stream_of(upstream_to(engine)))

    assert reading.data == [*data, b"[DONE]"]
    assert reading.seqs == list(range(1, 502))
    assert reading.end == COMPLETED


async def test_burst_of_events_in_one_chunk_is_one_arrival(nursery: trio.Nursery) -> None:
    data = [b"%d" % number for number in range(500)]
    engine = await start_engine(nursery, in_one_segment(events(*data) + DONE))

    async with stream_of(upstream_to(engine)) as feed:
        arrivals = await anext(aiter(feed))

    assert [arrival.data for arrival in arrivals] == [*data, b"[DONE]"]


async def test_large_event_is_read_whole(nursery: trio.Nursery) -> None:
    large = b"x" * (1024 * 1024 - len("data: "))
    engine = await start_engine(nursery, play(whole_stream(large)))

    reading = await generate(stream_of(upstream_to(engine)))

    assert (reading.data, reading.end) == ([large, b"[DONE]"], COMPLETED)


@pytest.mark.parametrize("ending", [b"\n\n", b""], ids=["ended", "endless"])
async def test_event_that_is_larger_than_its_bound_breaks_the_stream(
    nursery: trio.Nursery, ending: bytes
) -> None:
    huge = b"data: " + b"x" * 200_000 + ending
    engine = await start_engine(nursery, play(HEAD_OF_STREAM, chunk(events(b"a")), chunk(huge)))
    upstream = upstream_to(engine, max_event_bytes=100_000)
    with TaskCensus() as census:
        reading = await generate(stream_of(upstream))

        assert (reading.data, reading.end) == ([b"a"], failed("broken"))
        assert upstream.open_calls == 0
        await census.settled()


async def test_body_is_read_on_behind_the_terminal_event(nursery: trio.Nursery) -> None:
    engine = await start_engine(nursery, play(HEAD_OF_STREAM, chunk(events(b"a") + DONE)))
    upstream = upstream_to(engine)

    async with open_hub() as hub:
        with hub.join("key", stream_of(upstream)) as subscriber:
            reading = await read_to_end(subscriber)
        peer = engine.peers[0]
        await peer.played.wait()
        await wait_all_tasks_blocked()
        calls_while_it_reads_on = upstream.open_calls
        await peer.send(chunk(events(b"b")))
        await wait_all_tasks_blocked()
        left_before_the_end = peer.left.is_set()
        await peer.send(LAST_CHUNK)
        await peer.left.wait()

    assert (reading.data, reading.end) == ([b"a", b"[DONE]"], COMPLETED)
    assert subscriber.generation.transcript.last == 2
    assert (calls_while_it_reads_on, left_before_the_end) == (1, False)


async def test_body_that_goes_on_behind_the_terminal_event_is_left_in_time(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "FINISH_SECONDS", 0.05)
    engine = await start_engine(nursery, play(HEAD_OF_STREAM, chunk(events(b"a") + DONE)))
    upstream = upstream_to(engine)

    reading = await generate(stream_of(upstream))

    assert reading.end == COMPLETED
    assert upstream.open_calls == 0
    await engine.peers[0].left.wait()


async def test_crowd_of_readers_sees_the_same_stream_of_one_call(nursery: trio.Nursery) -> None:
    engine = await start_engine(nursery, play(whole_stream(b"a", b"b")))
    upstream = upstream_to(engine)
    readings = [Reading() for _ in range(20)]

    async def follow(reading: Reading) -> None:
        with hub.join("key", stream_of(upstream)) as subscriber:
            await reading.follow(subscriber)

    async with open_hub() as hub, trio.open_nursery() as readers:
        for reading in readings:
            readers.start_soon(follow, reading)

    assert [reading.data for reading in readings] == [[b"a", b"b", b"[DONE]"]] * 20
    assert len(engine.peers) == 1
