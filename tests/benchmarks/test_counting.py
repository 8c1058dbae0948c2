"""A reader that only counts."""

import socket
from collections.abc import Iterator

import pytest

from benchmarks.counting import MARKER, CountingReader

EVENT = b'data: {"object":"%b","choices":[]}\n\n' % MARKER


@pytest.fixture
def reader() -> Iterator[CountingReader]:
    reader = CountingReader(b"", enough=3)
    yield reader
    reader.leave()


@pytest.mark.parametrize("size", [1, 2, 7, len(MARKER), 100, 1000])
def test_events_are_counted_once_however_they_are_cut(size: int, reader: CountingReader) -> None:
    stream = b"HTTP/1.1 200 OK\r\n\r\n" + 2 * EVENT + b"data: [DONE]\n\n"

    for start in range(0, len(stream), size):
        reader.take(stream[start : start + size])

    assert reader.events == 2
    assert len(stream) == reader.bytes
    assert not reader.is_done


def test_a_reader_leaves_with_the_last_event_and_has_noted_when_the_others_came() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    reader = CountingReader(b"", enough=3)
    reader.connect(*listener.getsockname())

    reader.take(EVENT)
    reader.take(b": nothing\n\n")
    reader.take(2 * EVENT)

    assert list(reader.stamps[1::2]) == [1, 3]
    assert reader.left_at is not None
    assert reader.stamps[0] <= reader.stamps[2] <= reader.left_at
    connection, _ = listener.accept()
    assert connection.recv(1) == b""
    connection.close()
    listener.close()
