"""Counting readers for each way in which a stream can be had: plain HTTP, TLS, WebSocket."""

from __future__ import annotations

import json
import os
import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.counting import CountingReader
from benchmarks.readers import READ_BYTES, chat_body

HEAD_END = b"\r\n\r\n"
TEXT_FRAME = 0x81
"""A whole message of text (RFC 6455, section 5.2)."""
MASKED, TWO_MORE_BYTES = 0x80, 126
NO_MASK = bytes(4)
"""A client has to mask what it sends (section 5.3); this key leaves it as it is."""

TRANSPORTS = ("http", "tls", "websocket")


def reader_maker(transport: str, authority: str | None) -> Callable[[bytes, int], CountingReader]:
    """What makes a reader of what to ask, and how many events are enough.

    ``authority`` is a file (PEM) of the certificates that are trusted over TLS.
    """
    if transport == "tls":
        return partial(TlsReader, context=ssl.create_default_context(cafile=authority))
    return {"http": CountingReader, "websocket": WebSocketReader}[transport]


class TlsReader(CountingReader):
    """Over TLS."""

    def __init__(self, asking: bytes, enough: int, context: ssl.SSLContext) -> None:
        super().__init__(asking, enough)
        self._context = context
        self._tls: ssl.SSLSocket | None = None

    def ask(self) -> None:
        """Go on with the handshake; send the request as soon as it is over."""
        try:
            if self._tls is None:
                self._socket = self._tls = self._context.wrap_socket(
                    self._socket, do_handshake_on_connect=False, server_hostname="localhost"
                )
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        except OSError as error:
            self._end(error)
            return
        super().ask()

    def read(self, max_bytes: int = READ_BYTES) -> None:
        """Count what has come; the kernel does not tell of what is left in the TLS layer."""
        while not self.is_done:
            try:
                data = self._socket.recv(max_bytes)
            except ssl.SSLWantReadError:
                return
            except OSError as error:
                self._end(error)
                return
            if not data:
                self._end(None)
                return
            self.take(data)


class WebSocketReader(CountingReader):
    """Over WebSocket: it asks with the handshake, and says the rest when that has been granted."""

    def __init__(self, asking: bytes, enough: int) -> None:
        handshake, end, self._saying = asking.partition(HEAD_END)
        super().__init__(handshake + end, enough)
        self._head = b""

    def take(self, data: bytes) -> None:
        """Take in what was read; once it is the whole head of the answer, speak."""
        if self._saying:
            self._head += data
            if HEAD_END not in self._head:
                return
            if not self._head.startswith(b"HTTP/1.1 101 "):
                self._end(ConnectionRefusedError(self._head.decode(errors="replace")))
                return
            _, _, data = self._head.partition(HEAD_END)
            self._socket.sendall(self._saying)
            self._saying = b""
        super().take(data)


def websocket_request(prompt: str, tokens: int, headers: Mapping[str, str]) -> bytes:
    """A handshake on ``/v1/ws`` (RFC 6455, section 4.1), and after it the frame that asks for a
    generation that is shared."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    handshake = (
        "GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {b64encode(os.urandom(16)).decode()}\r\n"
        f"{lines}\r\n"
    )
    message = {
        "type": "generate",
        "path": "/v1/chat/completions",
        "mode": "replay",
        "body": chat_body(prompt, tokens),
    }
    payload = json.dumps(message).encode()
    size = len(payload)
    length = bytes([MASKED | TWO_MORE_BYTES, *size.to_bytes(2, "big")])
    if size < TWO_MORE_BYTES:
        length = bytes([MASKED | size])
    return handshake.encode() + bytes([TEXT_FRAME]) + length + NO_MASK + payload
