"""Lanes: what a response writes straight to its client, behind the back of HTTP's own machinery.

The usual way of a piece of a body leads through the framework, the server's protocol and its
parser, each with an object and a call or two for it. None of them changes anything about a stream
whose head is out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from trioproxy.net import DirectStream


class Lane:
    """Writes to the client of one request.

    It is for bodies in chunked coding (RFC 9112, section 7.1) whose head and first chunk are out,
    where what is written must be whole chunks; and for WebSockets that are open, and whole frames.

    Attributes:
        write: write all of what is given. As any write it ends with the connection where the client
            takes no byte, or if it is cancelled half-way.
    """

    def __init__(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        self.write = write


class ExpressLane(Lane):
    """One that can be written to with no task in between: the socket is the client's own, without
    TLS, and what it does not take is kept by the connection and goes before any later byte."""

    def __init__(
        self,
        client: DirectStream,
        writing: trio.Lock,
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        super().__init__(write)
        self._client = client
        self._writing = writing

    @property
    def is_clear(self) -> bool:
        """Whether nothing waits to be written."""
        return not self._client.unsent

    def write_nowait(self, data: bytes) -> int:
        """Write what the socket takes now, and return how much that is. Of a part, the rest is kept
        and has to be flushed."""
        return 0 if self._writing.locked() else self._client.write_nowait(data)

    async def flush(self) -> None:
        """Write what was kept. As :attr:`write` otherwise."""
        await self.write(b"")
