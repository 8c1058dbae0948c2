"""A connection to a broker, made: to itself, or to the primary that Sentinels name."""

from __future__ import annotations

import re

import trio
from anyio.abc import ByteStream
from coredis.connection import (
    BaseConnection,
    BaseConnectionParams,
    SentinelManagedConnection,
    TCPConnection,
    TCPLocation,
)
from coredis.exceptions import RedisError

from trioproxy.cluster.address import Address
from trioproxy.cluster.errors import BrokerDown


class _Tidy(BaseConnection):
    """What is not connected to is closed: coredis closes what it has connected to."""

    async def _connect(self) -> ByteStream:
        try:
            return await super()._connect()  # pyright: ignore[reportAbstractUsage]
        except BaseException:
            self._write_buffer_in.close()
            self._write_buffer_out.close()
            self._push_message_buffer_in.close()
            self._push_message_buffer_out.close()
            self._streamed_message_buffer_in.close()
            self._streamed_message_buffer_out.close()
            raise


class _ToServer(_Tidy, TCPConnection):
    pass


class _ToPrimary(_Tidy, SentinelManagedConnection):
    pass


async def find(address: Address, deadline: float, name: str) -> BaseConnection:
    """A connection to be run, with this name for who looks at the broker's list of clients.

    The Sentinels are asked one after the other, and have ``deadline`` seconds together, but for
    the time that connecting needs. Raises :class:`BrokerDown` where none of them knows the primary.
    A primary that is one no more is seen when the connection is run.
    """
    params = BaseConnectionParams(
        connect_timeout=deadline,
        username=address.username,
        password=address.password,
        db=address.db,
        ssl_context=address.ssl_context,
        client_name=re.sub(r"[^!-~]", "-", name),  # nothing else is taken
    )
    if address.sentinel is None:
        (location,) = address.hosts
        return _ToServer(TCPLocation(*location), socket_keepalive=True, **params)
    share = deadline / (len(address.hosts) + 1)
    for host in address.hosts:
        primary = await _ask_sentinel(host, address, share)
        if primary is not None:
            return _ToPrimary(primary, address.sentinel, True, **params)
    raise BrokerDown(f"no Sentinel knows the primary {address.sentinel}")


async def _ask_sentinel(
    host: tuple[str, int], address: Address, patience: float
) -> TCPLocation | None:
    assert address.sentinel is not None
    sentinel = _ToServer(TCPLocation(*host), ssl_context=address.ssl_context)
    found: list[bytes] | None = None
    with trio.move_on_after(patience):
        async with trio.open_nursery() as nursery:
            try:
                await nursery.start(sentinel.run)
                found = await sentinel.create_request(  # pyright: ignore
                    b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", address.sentinel
                )
            except RedisError:
                found = None
            nursery.cancel_scope.cancel(reason="the Sentinel was asked")
    return TCPLocation(found[0].decode(), int(found[1])) if found else None
