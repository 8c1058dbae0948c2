"""What an upstream sends: the parsers of its streams, and of HTTP itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.budget import budget
from tests.fuzz.noise import spoiled
from tests.wire.chunking import chunkings
from trioproxy.upstream.transport.framing import AnswerParser
from trioproxy.wire import EventTooLarge, Message, NDJSONParser, SSEParser

STREAMS = [
    b'event: message\r\nid: 7\r\nretry: 10\r\ndata: {"a":1}\r\n\r\ndata: [DONE]\r\n\r\n',
    b'\xef\xbb\xbfdata: {"choices":[{"text":"\xe2\x80\xa8"}]}\n\n'
    b": ping\n\ndata:a\ndata\ndata: b\n\n",
    b'{"message":{"content":"a"},"done":false}\n \n{"done":true}\r\n{"a"',
    b"data:a\n" * 40 + b"\n",
]
FIELDS = [b"data", b"event", b"id", b"retry", b":", b": ", b"\n", b"\r", b"\r\n", b"\n\n", b"\0"]
LIMITS = st.sampled_from([1, 7, 60, 1 << 20])


def cut(streams: st.SearchStrategy[bytes]) -> st.SearchStrategy[tuple[bytes, list[bytes]]]:
    return streams.flatmap(lambda stream: st.tuples(st.just(stream), chunkings(stream)))


def parse(parser: SSEParser | NDJSONParser, chunks: list[bytes], limit: int) -> list[Message] | str:
    """The messages, the one that ``finish`` tells included; or that one is too large."""
    messages: list[Message] = []
    try:
        for chunk in chunks:
            messages += parser.feed(chunk)
            held = [each for each in vars(parser).values() if isinstance(each, bytes | bytearray)]
            assert sum(map(len, held)) <= 3 * limit + 2
        last = parser.finish()
    except EventTooLarge:
        with pytest.raises(EventTooLarge):
            parser.feed(b"data: a\n\n")
        return "too large"
    return messages if last is None else [*messages, last]


@pytest.mark.parametrize("parser", [SSEParser, NDJSONParser])
@budget(250)
@given(cut(spoiled(STREAMS, FIELDS)), LIMITS)
def test_a_stream_means_the_same_however_it_is_cut_and_is_held_in_bounds(
    parser: Any, case: tuple[bytes, list[bytes]], limit: int
) -> None:
    stream, chunks = case

    assert parse(parser(limit), chunks, limit) == parse(parser(limit), [stream], limit)


ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 E\r\nLink: a\r\n\r\nHTTP/1.0 404 N\r\n\r\nbody",
    b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
]
HTTP = [
    *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b" ", b":", b"\t", b"HTTP/1.1 ", b"101", b"304"),
    *(b"0\r\n\r\n", b"FFFFFFFFFFFFFFFFF\r\n", b"Content-Length: 3\r\n", b"-1", b"1.0", b"2"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Upgrade: x\r\n"),
]


def read(method: str, chunks: list[bytes]) -> dict[str, Any]:
    parser, body = AnswerParser(method), b""
    for chunk in [*filter(None, chunks), b""]:
        if parser.is_complete or parser.flaw:
            break
        body += parser.feed(chunk)
    assert parser.is_complete != (parser.flaw is not None)
    assert not parser.may_be_followed or parser.is_complete
    return {
        "head": parser.has_head and (parser.status, parser.reason, parser.headers),
        "body": body,
        "is_complete": parser.is_complete,
    }


@budget(400)
@given(st.sampled_from(["GET", "POST", "HEAD"]), cut(spoiled(ANSWERS, HTTP)))
def test_an_answer_is_the_same_however_it_is_cut(
    method: str, case: tuple[bytes, list[bytes]]
) -> None:
    stream, chunks = case

    assert read(method, chunks) == read(method, [stream])
