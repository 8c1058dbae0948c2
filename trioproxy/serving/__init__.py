"""The client's side: sockets in, requests to the application, bytes out, and an end to all of it.

Built of hypercorn's own parts (its configuration, HTTP/1.1 protocol, lifespan), with a connection
and a server of ours around them, because a streaming proxy needs what they do not give: a write
that can be cancelled, a client that can be thrown out, a disconnect that is always seen, and a
shutdown that ends.

:class:`~trioproxy.net.DirectStream` is the socket,
:class:`~trioproxy.serving.connection.Connection` one client, :mod:`~trioproxy.serving.server` all
of them, :mod:`~trioproxy.serving.proxy` the whole: hub, upstream, routes and server, opened and
shut down in order.
"""

from trioproxy.serving.proxy import Proxy, open_proxy, serve

__all__ = ["Proxy", "open_proxy", "serve"]
