"""A connection to a broker, made: to itself, to the primary that Sentinels name, or to the one that
has a slot of a Redis Cluster."""

from __future__ import annotations

import re
from collections import deque
from typing import Any

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
from trioproxy.cluster.errors import BrokerDown, BrokerRefused
from trioproxy.cluster.refusals import first_of, translated

Host = tuple[str, int]

ASKED = 3
"""How many servers of a cluster are asked each time; then another pause is made."""

NONE_ANSWERS = "none answers"
"""Whichever was asked: what is told each time alike is logged once."""


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
    params = _params(address, deadline, name)
    if address.sentinel is None:
        (location,) = address.hosts
        return _ToServer(TCPLocation(*location), socket_keepalive=True, **params)
    asked = (b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", address.sentinel)
    of_sentinels = BaseConnectionParams(ssl_context=address.ssl_context)
    share = deadline / (len(address.hosts) + 1)
    why = NONE_ANSWERS
    for host in address.hosts:
        try:
            found = await _ask(host, of_sentinels, share, *asked)
        except BrokerDown:
            continue
        except BrokerRefused as error:
            why = str(error)
            continue
        if found:
            primary = TCPLocation(found[0].decode(), int(found[1]))
            return _ToPrimary(primary, address.sentinel, True, **params)
        why = "it is not known there"
    raise BrokerDown(f"no Sentinel knows the primary {address.sentinel}: {why}")


class Seeker:
    """Finds the primary that has a slot of a Redis Cluster.

    Its servers are asked in turn, each time another first: one that is behind the others does not
    hold up who asks again. Those that the address names are asked, and those that were heard of.
    """

    def __init__(self, address: Address, slot: int) -> None:
        self._address = address
        self._slot = slot
        self._hosts = deque(address.hosts)

    async def find(self, deadline: float, name: str) -> BaseConnection:
        """A connection to be run, as :func:`find`."""
        params, share = _params(self._address, deadline, name), deadline / (ASKED + 1)
        why = NONE_ANSWERS
        hosts = list(self._hosts)[:ASKED]
        self._hosts.rotate(-1)
        for host in hosts:
            try:
                primary = self._note(host, await _ask(host, params, share, b"CLUSTER", b"SLOTS"))
            except BrokerDown:
                continue
            except BrokerRefused as error:
                why = str(error)
                continue
            why = "nobody has it"
            if primary is not None:
                return _ToServer(TCPLocation(*primary), socket_keepalive=True, **params)
        raise BrokerDown(f"no server of the cluster knows who has slot {self._slot}: {why}")

    def _note(self, asked: Host, ranges: list[Any]) -> Host | None:
        """The primary; and who else may be asked the next time. A server that does not tell its
        name has that by which it was asked."""
        heard, primary = set[Host](), None
        for first, last, *servers in ranges:
            hosts = [
                (server[0].decode() if server[0] else asked[0], int(server[1]))
                for server in servers
            ]
            heard.update(hosts)
            if first <= self._slot <= last:
                primary = hosts[0]
        if heard:
            known = heard.union(self._address.hosts)
            kept = [host for host in self._hosts if host in known]
            self._hosts = deque([*kept, *sorted(known.difference(kept))])
        return primary


def _params(address: Address, deadline: float, name: str) -> BaseConnectionParams:
    return BaseConnectionParams(
        connect_timeout=deadline,
        username=address.username,
        password=address.password,
        db=address.db,
        ssl_context=address.ssl_context,
        client_name=re.sub(r"[^!-~]", "-", name),  # nothing else is taken
    )


async def _ask(
    host: Host, params: BaseConnectionParams, patience: float, *command: bytes | str
) -> list[Any]:
    """What a server replies, on a connection of its own. Raises :class:`BrokerDown` where it does
    not in so many seconds, and :class:`BrokerRefused`."""
    server = _ToServer(TCPLocation(*host), **params)
    reply: list[Any] | None = None
    why: Exception | None = None
    with trio.move_on_after(patience) as in_time:
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(server.run)
                reply = await server.create_request(*command)  # pyright: ignore
                nursery.cancel_scope.cancel(reason="the server was asked")
        except* (RedisError, OSError) as errors:
            why = first_of(errors)
    if why is not None:
        raise translated(why) from why
    if in_time.cancelled_caught:
        raise BrokerDown("no answer in time")
    return reply or []
