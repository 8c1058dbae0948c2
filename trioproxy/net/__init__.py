"""Bytes to and from a peer, at the cost of the system call: what both sides of the proxy, the
clients' and the engines', are read and written through.

A :class:`Socket` is the non-blocking socket itself, :class:`DirectStream` a trio stream on one.
"""

from trioproxy.net.socket import KernelSocket, Socket, take_over
from trioproxy.net.stream import DirectStream

__all__ = ["DirectStream", "KernelSocket", "Socket", "take_over"]
