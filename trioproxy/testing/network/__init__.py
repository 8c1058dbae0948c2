"""TCP in memory: trio programs talk to each other with no socket, no port and no kernel.

    async def main() -> None:
        with VirtualNetwork():
            listeners = await trio.open_tcp_listeners(8080, host="127.0.0.1")
            ...
            stream = await trio.open_tcp_stream("engine.example", 8080)

    trio.run(main, clock=MockClock(autojump_threshold=0))

It stands at trio's own seams (:func:`trio.socket.set_custom_socket_factory` and
:func:`trio.socket.set_custom_hostname_resolver`), so whatever opens its connections by trio runs on
it unchanged, httpx and httpcore included. Every peer is a task of the same run: hence time can be
virtual, and the run is the same each time.

What it has of TCP is what programs depend on: connections that are refused, half-closed, closed and
reset (by ``SO_LINGER`` of 0 seconds, or by closing with bytes unread), buffers that fill up
(``SO_RCVBUF``), bytes in order and cut at any place. What it has not is delay: what is sent is
there. Time passes where a test says so, by the clock.

:class:`~trioproxy.testing.network.endpoint.Endpoint` is one end of a connection, synchronous;
:class:`~trioproxy.testing.network.socket.VirtualSocket` puts trio's interface over it.
"""

from trioproxy.testing.network.endpoint import Endpoint
from trioproxy.testing.network.network import VirtualNetwork
from trioproxy.testing.network.socket import VirtualSocket

__all__ = ["Endpoint", "VirtualNetwork", "VirtualSocket"]
