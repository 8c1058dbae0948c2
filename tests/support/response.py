"""One HTTP/1.1 response, read from bytes that the caller brings (sans-IO, on h11).

It keeps what h11 lets go of: where the chunks lie, and whether a body ended or merely stopped.
"""

from dataclasses import dataclass
from typing import Literal

import h11


@dataclass(frozen=True, slots=True)
class Head:
    """A response's status and headers; names in lower case, repeated ones joined by a comma."""

    status: int
    headers: dict[str, str]


class ResponseReader:
    """The response to one request by `method` (the one to HEAD has no body).

    `unread` are bytes that came behind the previous response on the same connection.

    Attributes:
        head: None until `next_head` has returned it.
        body: `awaited` until then; then `open` until it is `complete`, as its framing announced, or
            `cut`. A body that only the close of the connection delimits is complete at FIN.
    """

    def __init__(self, method: str, unread: bytes = b"") -> None:
        self.head: Head | None = None
        self.body: Literal["awaited", "open", "complete", "cut"] = "awaited"
        self._parser = h11.Connection(h11.CLIENT)
        # It may have asked for another protocol: then a 101 would be no error.
        headers = [("host", "server"), ("connection", "upgrade"), ("upgrade", "any")]
        self._parser.send(h11.Request(method=method, target="/", headers=headers))
        self._parser.send(h11.EndOfMessage())
        self._chunked = False
        self._partial_chunk = bytearray()
        self._at_eof = False
        if unread:  # to h11 no bytes would mean EOF
            self._parser.receive_data(unread)

    def feed(self, data: bytes) -> None:
        """Take bytes as received; none at all mean EOF."""
        self._at_eof = not data
        self._parser.receive_data(data)

    def cut(self) -> None:
        """Take note that the connection was reset: the body ends here, whatever its framing."""
        self.body = "cut"

    @property
    def unread(self) -> bytes:
        """What was fed and has not been parsed."""
        return self._parser.trailing_data[0]

    def next_head(self) -> Head | None:
        """Return the head, or None while it wants more bytes. 1xx responses are passed over, but
        for the one that is final: 101, behind which nothing is HTTP.

        Raises:
            h11.RemoteProtocolError: this is no HTTP, or EOF came before the head's end.
        """
        event = self._parser.next_event()
        while isinstance(event, h11.InformationalResponse) and event.status_code != 101:
            event = self._parser.next_event()
        if not isinstance(event, h11.Response | h11.InformationalResponse):
            return None
        headers: dict[str, str] = {}
        for raw_name, raw_value in event.headers:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        self._chunked = "transfer-encoding" in headers
        self.body = "open"
        self.head = Head(event.status_code, headers)
        return self.head

    def next_chunk(self) -> bytes | None:
        """Return one chunk as it was framed, no bytes while it wants more, or None at the end.

        Without chunked framing a chunk is what has arrived. What came of a chunk that was cut is
        the last one.

        Raises:
            h11.RemoteProtocolError: the framing is broken.
        """
        while self.body == "open":
            try:
                event = self._parser.next_event()
            except h11.RemoteProtocolError:
                if not self._at_eof:
                    raise
                self.body = "cut"
                break
            if event is h11.NEED_DATA:
                return b""
            if isinstance(event, h11.EndOfMessage):
                self.body = "complete"
            elif isinstance(event, h11.Data):
                self._partial_chunk += event.data
                if event.chunk_end or not self._chunked:
                    break
        chunk = bytes(self._partial_chunk)
        self._partial_chunk.clear()
        return chunk or None
