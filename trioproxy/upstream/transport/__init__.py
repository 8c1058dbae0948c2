"""httpx's transport interface on trio streams: HTTP/1.1 over TCP and TLS, one exchange at a time.

Five modules, each knowing only those before it: `framing` turns requests into bytes and bytes into
answers, without any I/O; `connection` is a socket that can be closed without waiting; `pool` says
who may have a connection and which of them are kept; `body` is one exchange over one connection;
`transport` decides which connection that is, and speaks httpx.

The promise is the same all the way: **whoever holds a connection can close it synchronously**, and
does so on any exception, a cancellation included, before anything is awaited. So no socket and no
place in the pool is ever left to the garbage collector, whatever is cancelled when.
"""

from trioproxy.upstream.transport.body import ResponseBody
from trioproxy.upstream.transport.connection import describe
from trioproxy.upstream.transport.pool import IDLE_SECONDS
from trioproxy.upstream.transport.transport import TrioTransport

__all__ = ["IDLE_SECONDS", "ResponseBody", "TrioTransport", "describe"]
