"""The bare loop: the events of a chunked body, each framed again."""

import socket
from collections.abc import Iterator

import pytest

from benchmarks.peers.loop import Generation

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY = b"c\r\ndata: a\n\ndat\r\n" + b"6\r\na: b\n\n\r\n" + b"0\r\n\r\n"


@pytest.fixture
def generation() -> Iterator[Generation]:
    with socket.socket() as connection:
        yield Generation(connection)


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_each_event_is_a_chunk_however_the_answer_was_cut(
    size: int, generation: Generation
) -> None:
    answer = HEAD + BODY

    chunks = [
        chunk
        for start in range(0, len(answer), size)
        for chunk in generation.feed(answer[start : start + size])
    ]

    assert chunks == [b"9\r\ndata: a\n\n\r\n", b"9\r\ndata: b\n\n\r\n"]
