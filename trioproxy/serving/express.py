"""The express lane: the part of a response that is written with no task in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from trioproxy.serving.stream import ClientStream


class Lane:
    """Writes to the client of one request, behind the back of HTTP's own machinery.

    It is for bodies in chunked coding (RFC 9112, section 7.1) over plain HTTP/1.1, whose head and
    first chunk are out: what is written must be whole chunks. What the socket does not take is kept
    by the connection and goes before any later byte.
    """

    def __init__(
        self,
        client: ClientStream,
        writing: trio.Lock,
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self._client = client
        self._writing = writing
        self._write = write

    @property
    def is_clear(self) -> bool:
        """Whether nothing waits to be written."""
        return not self._client.unsent

    def write_nowait(self, data: bytes) -> int:
        """Write what the socket takes now, and return how much that is. Of a part, the rest is kept
        and has to be flushed."""
        return 0 if self._writing.locked() else self._client.write_nowait(data)

    async def flush(self) -> None:
        """Write what was kept. As any write it ends with the connection where the client takes no
        byte, or if it is cancelled."""
        await self._write(b"")
