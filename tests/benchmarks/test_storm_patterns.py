"""How clients leave."""

import socket
import time
from collections.abc import Iterator
from random import Random

import pytest

from benchmarks.answers import understand
from benchmarks.readers import LAST_CHUNK, Loop, Reader, StuckReader
from benchmarks.storm.patterns import SIP_BYTES, SippingReader, draw_stays

WITHIN = 5.0
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FRAME = b'data: {"choices":[{"delta":{"content":"word"}}]}\n\n'


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WITHIN)
        yield listener


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


def connect(loop: Loop, listener: socket.socket, reader: Reader) -> socket.socket:
    """Let the reader ask; return the server's end of its connection."""
    loop.connect(reader, *listener.getsockname())
    assert loop.run(lambda: reader.has_asked, time.monotonic() + WITHIN)
    server, _ = listener.accept()
    return server


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_stays_are_drawn_from_the_seed_alone() -> None:
    assert draw_stays(Random(7), 50, mean=1) == draw_stays(Random(7), 50, mean=1)
    assert draw_stays(Random(7), 50, mean=1) != draw_stays(Random(8), 50, mean=1)


def test_stays_are_exponentially_distributed() -> None:
    stays = draw_stays(Random(0), 20_000, mean=2)

    assert min(stays) >= 0
    assert sum(stays) / len(stays) == pytest.approx(2, rel=0.03)
    assert sum(stay > 2 for stay in stays) / len(stays) == pytest.approx(0.368, abs=0.02)


@pytest.mark.parametrize("seed", range(20))
def test_a_sipping_reader_leaves_inside_a_frame(
    loop: Loop, listener: socket.socket, seed: int
) -> None:
    reader = SippingReader(Random(seed), b"GET")
    with connect(loop, listener, reader) as server:
        server.sendall(HEAD + chunk(FRAME) * (2 * SIP_BYTES[1] // len(FRAME)))
        assert loop.run(lambda: reader.is_done, time.monotonic() + WITHIN)

    assert reader.left_at is not None
    assert understand(reader.pieces).rest != b""
    assert sum(len(data) for _, data in reader.pieces) < SIP_BYTES[1] + len(FRAME)


@pytest.mark.parametrize("cut", range(1, len(LAST_CHUNK)))
def test_an_answer_is_over_with_its_last_chunk_however_it_was_cut(
    loop: Loop, listener: socket.socket, cut: int
) -> None:
    reader = Reader(b"GET")
    with connect(loop, listener, reader) as server:
        server.sendall(HEAD + chunk(FRAME) + LAST_CHUNK[:cut])
        assert loop.run(lambda: bool(reader.pieces), time.monotonic() + WITHIN)
        assert not reader.has_ended
        server.sendall(LAST_CHUNK[cut:])
        assert loop.run(lambda: reader.has_ended, time.monotonic() + WITHIN)

    assert reader.left_at is None


def test_a_stuck_reader_reads_nothing(loop: Loop, listener: socket.socket) -> None:
    stuck, other = StuckReader(b"GET"), Reader(b"GET")
    with connect(loop, listener, stuck) as server, connect(loop, listener, other) as beside:
        server.sendall(HEAD)
        beside.sendall(HEAD)
        assert loop.run(lambda: bool(other.pieces), time.monotonic() + WITHIN)

    assert stuck.pieces == []


@pytest.mark.parametrize(
    ("leave", "end"), [(Reader.leave, b""), (Reader.reset, ConnectionResetError)]
)
def test_a_reader_leaves_as_it_is_told(loop: Loop, listener: socket.socket, leave, end) -> None:
    reader = Reader(b"GET")
    with connect(loop, listener, reader) as server:
        server.settimeout(WITHIN)
        assert server.recv(10) == b"GET"
        before = time.time_ns()

        leave(reader)

        assert reader.left_at is not None
        assert reader.left_at >= before
        if isinstance(end, bytes):
            assert server.recv(10) == end
        else:
            with pytest.raises(end):
                server.recv(10)


def test_a_refused_connection_is_an_end_with_an_error(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = closed.getsockname()
    reader = Reader(b"GET")

    loop.connect(reader, *address)
    loop.run(lambda: reader.has_ended, time.monotonic() + WITHIN)

    assert isinstance(reader.error, ConnectionRefusedError)


def test_actions_are_called_in_the_order_of_their_moments(loop: Loop) -> None:
    record: list[str] = []
    now = time.monotonic()
    loop.at(now + 0.002, lambda: record.append("second"))
    loop.at(now + 0.001, lambda: record.append("first"))
    loop.at(now + 60, lambda: record.append("far"))

    loop.run(lambda: len(record) == 2, now + WITHIN)

    assert record == ["first", "second"]


def test_what_an_action_brings_about_is_seen_at_once(loop: Loop) -> None:
    record: list[str] = []
    deadline = time.monotonic() + WITHIN
    loop.at(time.monotonic(), lambda: record.append("done"))

    holds = loop.run(lambda: bool(record), deadline)

    assert holds
    assert time.monotonic() < deadline
