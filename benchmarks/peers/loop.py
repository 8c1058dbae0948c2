"""The limit: a bare epoll loop that writes each event of the engine to all sockets itself.

    python -m benchmarks.peers.loop ENGINE_URL

Whoever asks first has the engine asked, in the same words; whoever asks the same gets the same
answer, from its start. There is nothing else: no other path, no errors told, no time limits, no
cancelling. It is what fan-out costs at the least, without a framework and without promises.
"""

from __future__ import annotations

import select
import socket
import sys
from urllib.parse import urlsplit

BACKLOG = 4096
READ_BYTES = 1 << 16
HEAD_END = b"\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


class Reader:
    """A socket of a client, and what it has not taken yet."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.asking = b""
        self.unsent = bytearray()


class Generation:
    """An answer of the engine, as it comes, and who reads it."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.readers: set[Reader] = set()
        self.transcript = bytearray(HEAD)
        self._head: bytes | None = b""
        self._body = b""
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The events that have come with this data, each framed as a chunk."""
        if self._head is not None:
            head, end, data = (self._head + data).partition(HEAD_END)
            self._head = None if end else head
            if not end:
                return []
        *events, self._rest = (self._rest + self._take_chunks(data)).split(b"\n\n")
        return [b"%x\r\n%b\n\n\r\n" % (len(event) + 2, event) for event in events]

    def _take_chunks(self, data: bytes) -> bytes:
        """What the whole chunks hold (RFC 9112, section 7.1)."""
        self._body += data
        held: list[bytes] = []
        while (end := self._body.find(b"\r\n")) > 0:
            begin, size = end + 2, int(self._body[:end], 16)
            if len(self._body) < begin + size + 2:
                break
            held.append(self._body[begin : begin + size])
            self._body = self._body[begin + size + 2 :]
        return b"".join(held)


class Server:
    """The loop, and all sockets in it by their numbers."""

    def __init__(self, listener: socket.socket, engine: tuple[str, int]) -> None:
        self._listener = listener
        self._engine = engine
        self._epoll = select.epoll()
        self._epoll.register(listener, select.EPOLLIN)
        self._readers: dict[int, Reader] = {}
        self._upstream: dict[int, Generation] = {}
        self._running: dict[bytes, Generation] = {}

    def run(self) -> None:
        """Serve until the process is ended."""
        while True:
            for number, happened in self._epoll.poll():
                if number == self._listener.fileno():
                    self._accept()
                elif number in self._upstream:
                    self._read_engine(self._upstream[number])
                elif reader := self._readers.get(number):
                    if happened & select.EPOLLOUT:
                        self._write(reader, b"")
                    else:
                        self._read_client(reader)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self._readers[connection.fileno()] = Reader(connection)
        self._epoll.register(connection, select.EPOLLIN)

    def _read_client(self, reader: Reader) -> None:
        try:
            data = reader.socket.recv(READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self._forget(reader)
            return
        reader.asking += data
        head, end, body = reader.asking.partition(HEAD_END)
        if end and len(body) == _content_length(head):
            generation = self._find(reader.asking)
            generation.readers.add(reader)
            self._write(reader, bytes(generation.transcript))

    def _find(self, asking: bytes) -> Generation:
        generation = self._running.get(asking)
        if generation is None:
            connection = socket.create_connection(self._engine)
            connection.sendall(asking)
            generation = self._running[asking] = Generation(connection)
            self._upstream[connection.fileno()] = generation
            self._epoll.register(connection, select.EPOLLIN)
        return generation

    def _read_engine(self, generation: Generation) -> None:
        data = generation.socket.recv(READ_BYTES)
        chunks = generation.feed(data)
        if not data:
            del self._upstream[generation.socket.fileno()]
            generation.socket.close()
            chunks = [LAST_CHUNK]
        for chunk in chunks:
            generation.transcript += chunk
            for reader in list(generation.readers):
                self._write(reader, chunk)

    def _write(self, reader: Reader, data: bytes) -> None:
        if reader.unsent or not data:
            reader.unsent += data
            data = bytes(reader.unsent)
        try:
            sent = reader.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._forget(reader)
            return
        if reader.unsent or sent < len(data):
            reader.unsent = bytearray(data[sent:])
            interest = select.EPOLLIN | (select.EPOLLOUT if reader.unsent else 0)
            self._epoll.modify(reader.socket, interest)

    def _forget(self, reader: Reader) -> None:
        for generation in self._running.values():
            generation.readers.discard(reader)
        del self._readers[reader.socket.fileno()]
        reader.socket.close()


def _content_length(head: bytes) -> int:
    _, _, value = head.lower().partition(b"content-length: ")
    return int(value.partition(b"\r\n")[0])


def main(engine_url: str) -> None:
    """Serve on a free port of 127.0.0.1, printed as the first line, until the process is ended."""
    engine = urlsplit(engine_url)
    assert engine.hostname is not None
    assert engine.port is not None
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
        print(f"loop on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        Server(listener, (engine.hostname, engine.port)).run()


if __name__ == "__main__":
    main(sys.argv[1])
