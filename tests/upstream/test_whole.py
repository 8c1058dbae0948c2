"""An answer that is no stream: read in pieces, complete when its body is."""

from __future__ import annotations

import pytest
import trio

from tests.support.reading import read_to_end
from tests.upstream.calls import generate, upstream_to, whole_of
from tests.upstream.engine import LAST_CHUNK, Script, chunk, play, play_and_finish, start_engine
from trioproxy.fanout import COMPLETED, Limits, Outcome, failed, open_hub
from trioproxy.testing import TaskCensus
from trioproxy.upstream import Head, Timeouts

OF_A_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n"
IN_CHUNKS = b"HTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\n\r\n"


ANSWERS: dict[str, tuple[Script, bytes, Outcome]] = {
    "with a length": (play(OF_A_LENGTH, b'{"a"', b": 1}"), b'{"a": 1}', COMPLETED),
    "in chunks": (
        play(IN_CHUNKS, chunk(b'{"a"'), chunk(b": 1}"), LAST_CHUNK),
        b'{"a": 1}',
        COMPLETED,
    ),
    "until the close": (play_and_finish(b"HTTP/1.1 200 OK\r\n\r\n{}"), b"{}", COMPLETED),
    "empty": (play(IN_CHUNKS, LAST_CHUNK), b"", COMPLETED),
    "without content": (play(b"HTTP/1.1 204 No Content\r\n\r\n"), b"", COMPLETED),
    "shorter than its length": (play_and_finish(OF_A_LENGTH, b'{"a"'), b'{"a"', failed("broken")),
    "without its last chunk": (
        play_and_finish(IN_CHUNKS, chunk(b'{"a"')),
        b'{"a"',
        failed("broken"),
    ),
}


@pytest.mark.parametrize(("script", "body", "end"), ANSWERS.values(), ids=ANSWERS.keys())
async def test_answer_is_complete_when_its_body_is(
    nursery: trio.Nursery, script: Script, body: bytes, end: Outcome
) -> None:
    engine = await start_engine(nursery, script)
    upstream = upstream_to(engine)
    with TaskCensus() as census:
        reading = await generate(whole_of(upstream))

        assert (b"".join(reading.data), reading.end) == (body, end)
        assert upstream.open_calls == 0
        await census.settled()


@pytest.mark.parametrize("segments", [[], [OF_A_LENGTH, b'{"a"']], ids=["no head", "half a body"])
async def test_answer_that_does_not_come_in_time_ends_the_call_and_its_connection(
    nursery: trio.Nursery, segments: list[bytes]
) -> None:
    engine = await start_engine(nursery, play(*segments))
    upstream = upstream_to(engine, timeouts=Timeouts(first_token=0.2))
    with TaskCensus() as census:
        reading = await generate(whole_of(upstream))

        assert reading.end == failed("timeout")
        assert upstream.open_calls == 0
        await engine.peers[0].left.wait()
        await census.settled()


async def test_pieces_arrive_as_they_come(nursery: trio.Nursery) -> None:
    engine = await start_engine(nursery, play(OF_A_LENGTH, b'{"a"'))

    async with whole_of(upstream_to(engine)) as feed:
        pieces = aiter(feed)
        (first,) = await anext(pieces)
        await engine.peers[0].played.wait()
        await engine.peers[0].send(b": 1}")
        (second,) = await anext(pieces)
        (last,) = await anext(pieces)
        rest = [arrivals async for arrivals in pieces]

    assert [(first.data, first.decides), (second.data, second.decides)] == [
        (b'{"a"', None),
        (b": 1}", None),
    ]
    assert (last.data, last.decides) == (b"", COMPLETED)
    assert rest == []


async def test_head_of_the_answer_is_handed_on(nursery: trio.Nursery) -> None:
    engine = await start_engine(nursery, play(OF_A_LENGTH, b'{"a": 1}'))

    async with whole_of(upstream_to(engine)) as feed:
        head = feed.head

    assert head == Head(200, [(b"content-type", b"application/json"), (b"content-length", b"8")])


async def test_answer_that_is_too_large_to_keep_is_left_at_once(nursery: trio.Nursery) -> None:
    engine = await start_engine(nursery, play(IN_CHUNKS, chunk(bytes(20_000)) * 10))
    upstream = upstream_to(engine)
    with TaskCensus() as census:
        async with open_hub(Limits(max_transcript_bytes=50_000)) as hub:
            with hub.join("key", whole_of(upstream), when_full="fail") as subscriber:
                reading = await read_to_end(subscriber)

        assert reading.end == failed("too_large")
        await engine.peers[0].left.wait()
        await census.settled()
