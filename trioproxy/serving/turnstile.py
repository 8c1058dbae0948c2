"""How many clients get in: so many in all, and so many from one address.

Whoever comes beyond that is told so and turned away where clients are accepted: no task is started
for them, and their connections wait for nothing but to be closed.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable
from typing import NoReturn

import trio
from hypercorn.utils import parse_socket_addr  # pyright: ignore[reportUnknownVariableType]

from trioproxy.net import DirectStream
from trioproxy.serving.listener import ClientListener
from trioproxy.wire import OPENAI_CHAT, Failure

FULL = Failure(503, "server_error", "too many connections: try again", "overloaded")
FULL_FOR_ADDRESS = Failure(
    429, "rate_limit_error", "too many connections from this address", "too_many_connections"
)
REASONS = {503: b"Service Unavailable", 429: b"Too Many Requests"}
RETRY_AFTER_SECONDS = 1

LEAVE_SECONDS = 1.0
"""How long one who is turned away may take to read why. Closed at once, what it still sends would
reset our answer."""

MAX_LEAVING = 100
"""So many may take that time; then the first of them is closed."""


class Turnstile:
    """Counts who is in. The bounds may be changed; who is in stays. ``on_refusal`` is told why
    somebody is turned away; over TLS, where that would take a handshake, the client is not."""

    def __init__(
        self,
        *,
        max_connections: float = math.inf,
        max_address_connections: float = math.inf,
        is_tls: bool = False,
        on_refusal: Callable[[Failure], None] = lambda failure: None,
    ) -> None:
        self.max_connections = max_connections
        self.max_address_connections = max_address_connections
        self._is_tls = is_tls
        self._on_refusal = on_refusal
        self._inside: dict[DirectStream, str] = {}
        self._per_address: Counter[str] = Counter()
        self._leaving: deque[tuple[float, DirectStream]] = deque()
        self._one_leaves = trio.lowlevel.ParkingLot()
        self._all_seen_off = False

    def guard(self, listener: ClientListener) -> ClientListener:
        """The listener, but for those who are turned away."""
        return _Guarded(listener, self)

    def lets_in(self, client: DirectStream) -> bool:
        """Whether a client gets in: then it is in until :meth:`let_out`, else it is closed soon."""
        address = _address_of(client)
        if len(self._inside) >= self.max_connections:
            self._turn_away(client, FULL)
            return False
        if address and self._per_address[address] >= self.max_address_connections:
            self._turn_away(client, FULL_FOR_ADDRESS)
            return False
        self._inside[client] = address
        self._per_address[address] += 1
        return True

    def let_out(self, client: DirectStream) -> None:
        """Take note that it has left."""
        address = self._inside.pop(client)
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]

    def _turn_away(self, client: DirectStream, failure: Failure) -> None:
        self._on_refusal(failure)
        if self._all_seen_off:
            client.kill()
            return
        if self._is_tls:
            client.close()
            return
        client.write_nowait(_answer(failure))
        client.send_eof()
        if len(self._leaving) == MAX_LEAVING:
            self._leaving.popleft()[1].close()
        self._leaving.append((trio.current_time() + LEAVE_SECONDS, client))
        self._one_leaves.unpark()

    async def see_off(self) -> NoReturn:
        """Close those who were turned away when their time is over; all of them if cancelled, and
        who is turned away after that at once. The body of the one task that does."""
        try:
            while True:
                while not self._leaving:
                    await self._one_leaves.park()
                await trio.sleep_until(self._leaving[0][0])
                while self._leaving and self._leaving[0][0] <= trio.current_time():
                    self._leaving.popleft()[1].close()
        finally:
            self._all_seen_off = True
            while self._leaving:
                self._leaving.popleft()[1].kill()


class _Guarded(ClientListener):
    def __init__(self, listener: ClientListener, turnstile: Turnstile) -> None:
        self.address = listener.address
        self._listener = listener
        self._turnstile = turnstile

    async def accept(self) -> DirectStream:
        """The next client that gets in. If cancelled, none was taken."""
        while True:
            client = await self._listener.accept()
            if self._turnstile.lets_in(client):
                return client

    async def aclose(self) -> None:
        await self._listener.aclose()


def _address_of(client: DirectStream) -> str:
    """Where it comes from; "" where its kind of socket cannot tell, or it is gone already."""
    try:
        peer = parse_socket_addr(client.socket.family, client.socket.getpeername())
    except OSError:
        return ""
    return peer[0] if peer else ""


def _answer(failure: Failure) -> bytes:
    body = OPENAI_CHAT.error_body(failure)
    return (
        b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"Retry-After: %d\r\nConnection: close\r\n\r\n%b"
    ) % (failure.status, REASONS[failure.status], len(body), RETRY_AFTER_SECONDS, body)
