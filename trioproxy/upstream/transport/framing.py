"""HTTP/1.1 as bytes (RFC 9112): a request to send, and the answer to it as it comes. No I/O.

Parsed by httptools (llhttp, the parser of Node.js), for its cost: to read a token that comes as a
chunk of its own takes 35 us with it and 50 us with h11, all told. It is strict where leniency has
been used to smuggle: a head with bare LFs, or with both ``Content-Length`` and
``Transfer-Encoding``, is an error.
"""

from __future__ import annotations

import re

import httptools
import httpx

MAX_FRAMING_BYTES = 64 * 1024
"""So much may come without a byte of body in it: the head with all interim ones before it, a
chunk's extensions, the trailers. (As far as reads go: the last one may go beyond.)"""

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_FIELD_VALUE = re.compile(rb"[^\x00\r\n]*")  # section 5.5
_TARGET = re.compile(rb"[^\x00-\x20\x7f]+")


def request_bytes(method: str, target: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The head of a request. Raises :exc:`httpx.LocalProtocolError` where its parts are such that
    the engine would read another request in it."""
    name = method.encode("ascii", "replace")
    parts = [b"%b %b HTTP/1.1\r\n" % (name, target)]
    is_sound = _TOKEN.fullmatch(name) and _TARGET.fullmatch(target)
    for name, value in headers:
        is_sound = is_sound and _TOKEN.fullmatch(name) and _FIELD_VALUE.fullmatch(value)
        parts.append(b"%b: %b\r\n" % (name, value))
    if not is_sound:
        raise httpx.LocalProtocolError("the request's line or headers have illegal characters")
    parts.append(b"\r\n")
    return b"".join(parts)


class AnswerParser:
    """One answer, from its first byte to its last. Interim answers (1xx) are passed over, trailers
    and chunk extensions ignored.

    Attributes:
        has_begun: whether any byte of it has come.
        has_head: whether ``status``, ``reason`` and ``headers`` (names as they came) are there.
        is_complete: whether its last byte has come.
        flaw: what breaks it, if something does; nothing more comes of it then.
    """

    def __init__(self, method: str) -> None:
        self.status = 0
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.has_begun = False
        self.has_head = False
        self.is_complete = False
        self.flaw: str | None = None
        self._answers_head = method == "HEAD"
        self._ends_with_connection = False
        self._keeps_connection = False
        self._body: list[bytes] = []
        self._framing_bytes = 0
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> bytes:
        """What of the body is in these bytes, in one piece; b"" where nothing is. No bytes: the
        connection has ended."""
        if self._parser is None or self.is_complete or self.flaw:
            raise RuntimeError("this answer is over")
        if not data:
            self._end()
            return b""
        self.has_begun = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.is_complete:  # else it is what follows the answer that is broken
                self.flaw = self.flaw or f"this is no HTTP: {error}"
        return self._take_body(len(data))

    def discard(self) -> None:
        """Be of no more use. (The parser has references to this that only the garbage collector
        would find.)"""
        self._parser = None

    @property
    def may_be_followed(self) -> bool:
        """Whether the connection can carry another exchange: the answer is whole, nothing came
        behind it, and the server said neither ``Connection: close`` nor HTTP/1.0."""
        return self.is_complete and self._keeps_connection and not self.flaw

    def _take_body(self, received: int) -> bytes:
        body, self._body = self._body, []
        if body or self.is_complete:
            self._framing_bytes = 0
            return body[0] if len(body) == 1 else b"".join(body)
        self._framing_bytes += received
        if self._framing_bytes > MAX_FRAMING_BYTES:
            self.flaw = self.flaw or "its head, or what is between its chunks, does not end"
        return b""

    def _end(self) -> None:
        if self._ends_with_connection:
            self.is_complete = True
        elif self.has_begun:
            self.flaw = "the connection was closed before the answer was whole"
        else:
            self.flaw = "the connection was closed without an answer"

    # -- what the parser calls. It goes on behind the answer's end, so each asks where it is -------

    def on_message_begin(self) -> None:
        if self.is_complete:
            self._keeps_connection = False

    def on_status(self, status: bytes) -> None:
        if not self.has_head:
            self.reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.has_head:
            self.headers.append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        if self.has_head or self._parser is None:
            return
        self.status = self._parser.get_status_code()
        version = self._parser.get_http_version()
        if self.status == 101:
            self.flaw = "the server switched to a protocol that nobody asked for"
        elif not version.startswith("1."):
            self.flaw = f"HTTP/{version} is not HTTP/1.1"
        elif self.status < 200:
            self.reason = b""
            self.headers = []
        else:
            self.has_head = True
            self._read_framing(version)

    def on_body(self, body: bytes) -> None:
        if not self.is_complete and self.flaw is None:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self.is_complete = self.has_head and self.flaw is None

    def _read_framing(self, version: str) -> None:
        # RFC 9112, section 6.3. What ends a body, the parser knows; not what the connection's end
        # means to it, nor which request it answers.
        names = {name.lower() for name, _ in self.headers}
        codings = [value for name, value in self.headers if name.lower() == b"transfer-encoding"]
        coding = b", ".join(codings).lower()
        if codings and coding != b"chunked":
            self.flaw = f"its transfer coding is {coding.decode('latin-1')}, not chunked"
        self._ends_with_connection = not codings and b"content-length" not in names
        assert self._parser is not None
        self._keeps_connection = version == "1.1" and self._parser.should_keep_alive()
        if self._answers_head:  # of which the parser does not know that it ends here
            self.is_complete = self.flaw is None
            self._keeps_connection = False
