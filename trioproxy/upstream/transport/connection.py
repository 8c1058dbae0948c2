"""A connection to an origin: opened in time, and closed without waiting."""

from __future__ import annotations

import math
import ssl
from dataclasses import dataclass

import httpx
import trio

from trioproxy.net import DirectStream, take_over

READ_BYTES = 64 * 1024
"""The most that one read takes."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Whom a connection leads to."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: httpx.URL) -> Origin:
        """Raises :exc:`httpx.UnsupportedProtocol` where the URL is neither of http nor https."""
        ports = {"http": 80, "https": 443}
        if url.scheme not in ports or not url.host:
            raise httpx.UnsupportedProtocol(f"{url.scheme}://{url.host} is no origin of HTTP")
        return cls(url.scheme, url.raw_host.decode("ascii"), url.port or ports[url.scheme])


class Connection:
    """A TCP connection, and TLS over it where there is TLS. One task at a time receives."""

    def __init__(self, tcp: DirectStream, tls: trio.SSLStream[DirectStream] | None) -> None:
        self._tcp = tcp
        self._tls = tls
        self._stream = tcp if tls is None else tls

    @property
    def session(self) -> ssl.SSLSession | None:
        """TLS's, to resume in the next connection to the origin; None without TLS. Servers give it
        beside the first bytes of an answer (RFC 8446, section 4.6.1)."""
        return None if self._tls is None else self._tls.session

    async def send(self, data: bytes) -> None:
        """Send all of it. Raises :exc:`httpx.WriteError`. If cancelled, some of it may be out."""
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpx.WriteError(describe(error)) from error

    async def receive(self) -> bytes:
        """What comes next; b"" at the end of the connection. A checkpoint.

        Raises :exc:`httpx.ReadError`. If cancelled, nothing was received.
        """
        try:
            return bytes(await self._stream.receive_some(READ_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpx.ReadError(describe(error)) from error

    async def is_quiet(self) -> bool:
        """Whether it is open, and nothing came that nobody has read. Does not wait for anything.

        If cancelled, something may have been received and lost.
        """
        if self._tcp.socket.is_readable:
            return False
        if self._tls is None:
            return True
        # Bytes may wait inside TLS too, where no system call sees them, so it tries to read. What
        # is there is handed out at once; where it has to wait it is cancelled, by what runs next.
        # (A scope that is cancelled beforehand would not let it look.)
        with trio.CancelScope() as glance:
            trio.lowlevel.current_trio_token().run_sync_soon(glance.cancel)
            try:
                await self._tls.receive_some(1)
            except trio.BrokenResourceError:
                return False
        return glance.cancelled_caught

    def close(self) -> None:
        """Close the socket, at once. Idempotent. TLS is not told: HTTP says where bodies end."""
        self._tcp.close()


async def connect(
    origin: Origin,
    ssl_context: ssl.SSLContext,
    seconds: float | None,
    *,
    session: ssl.SSLSession | None = None,
) -> Connection:
    """Connect, by TCP and, for https, TLS: both together, name resolution included, have so many
    seconds (None: as long as it takes). ``session`` is of an earlier connection to the origin: as
    long as the server knows it, the handshake is a short one.

    Raises :exc:`httpx.ConnectError` or :exc:`httpx.ConnectTimeout`. If cancelled, or if anything
    else goes wrong, the socket is closed before anything is awaited.
    """
    try:
        with trio.fail_after(math.inf if seconds is None else seconds):
            # Tries every address of the name, the next each quarter of a second (RFC 8305), and
            # sets TCP_NODELAY.
            opened = await trio.open_tcp_stream(origin.host, origin.port)
            tcp = DirectStream(take_over(opened.socket), write_timeout=math.inf)
            if origin.scheme == "http":
                return Connection(tcp, None)
            return await _shake_hands(tcp, ssl_context, origin.host, session)
    except trio.TooSlowError as error:
        raise httpx.ConnectTimeout(f"no connection after {seconds} s") from error
    except (OSError, ValueError, trio.BrokenResourceError) as error:
        raise httpx.ConnectError(describe(error)) from error


async def _shake_hands(
    tcp: DirectStream, ssl_context: ssl.SSLContext, host: str, session: ssl.SSLSession | None
) -> Connection:
    try:
        tls = trio.SSLStream(tcp, ssl_context, server_hostname=host, https_compatible=True)
        if session is not None:
            tls.session = session
        await tls.do_handshake()
    except BaseException:
        tcp.close()
        raise
    return Connection(tcp, tls)


def describe(error: BaseException) -> str:
    """What failed, in words. Errors of trio and httpx often say nothing; what made them does. (By
    context where there is no cause: httpcore takes that away.)"""
    telling: BaseException | None = error
    while telling is not None and not str(telling):
        telling = telling.__cause__ or telling.__context__
    return str(telling or type(error).__name__)
