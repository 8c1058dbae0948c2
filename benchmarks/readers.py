"""Many readers of one stream in one process: plain sockets, epoll, no framework, so that it is
not the bottleneck."""

from __future__ import annotations

import json
import re
import selectors
import socket
import time
from dataclasses import dataclass, field

EVENT = re.compile(rb"^id: \S+:(\d+)\r?\n", re.MULTILINE)
"""The id line of an event; its seq. A chunk boundary inside one is rare enough to be waited for."""


@dataclass(slots=True, eq=False)
class Reader:
    """One client. ``arrivals`` are (seq, time.perf_counter()), ``rest`` what is not a whole
    event yet."""

    socket: socket.socket
    arrivals: list[tuple[int, float]] = field(default_factory=list)
    rest: bytes = b""
    ended: bool = False

    def read(self) -> None:
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionError:
            data = b""
        now = time.perf_counter()
        if not data:
            self.ended = True
            return
        text = self.rest + data
        cut = text.rfind(b"\n\n") + 2
        whole, self.rest = (text[:cut], text[cut:]) if cut > 1 else (b"", text)
        self.arrivals += [(int(match[1]), now) for match in EVENT.finditer(whole)]
        self.ended = whole.endswith(b"[DONE]\n\n")


def request(prompt: str, max_tokens: int) -> bytes:
    """A streaming call that joins the twin of it that runs."""
    body = json.dumps({"prompt": prompt, "max_tokens": max_tokens, "stream": True}).encode()
    return (
        b"POST /v1/completions HTTP/1.1\r\nHost: proxy\r\nX-Fanout: replay\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )


def connect(
    host: str, port: int, data: bytes, *, receive_buffer: int | None = None
) -> socket.socket:
    """A connection on which ``data`` has been sent. ``receive_buffer`` (bytes) makes it fill up
    soon."""
    client = socket.socket()
    if receive_buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.connect((host, port))
    client.sendall(data)
    return client


def read_until(readers: list[Reader], deadline: float) -> None:
    """Read them all until each has ended; raises TimeoutError past ``deadline`` (perf_counter)."""
    with selectors.DefaultSelector() as selector:
        for reader in readers:
            reader.socket.setblocking(False)
            selector.register(reader.socket, selectors.EVENT_READ, reader)
        while selector.get_map():
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{len(selector.get_map())} readers have not come to their end")
            for key, _ in selector.select(1.0):
                key.data.read()
                if key.data.ended:
                    selector.unregister(key.fileobj)
