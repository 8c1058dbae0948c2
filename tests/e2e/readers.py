"""A reader that has stopped reading."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from tests.e2e.commands import Proxy
from tests.e2e.polling import wait_equal
from tests.e2e.streams import COMPLETION, post
from tests.support.rawhttp import RawClient, open_client

LARGE_EVENTS = COMPLETION | {"logprobs": 600}
"""Each event tells the chances of every word: 45 kB."""

SMALL_BUFFER = 4096
"""Bytes that the kernel receives for a client, twice over: a fraction of a large event."""

_SEND_BUFFER = 4 << 20  # bytes; the most that the kernel takes from a server (tcp(7), tcp_wmem)


@asynccontextmanager
async def open_stuck_reader(proxy: Proxy) -> AsyncGenerator[RawClient]:
    """A reader of the slow engine whose connection takes no more bytes: the proxy waits in the
    middle of a frame to write the rest of it."""
    async with open_client(proxy.url, rcvbuf=SMALL_BUFFER) as client:
        await post(client, LARGE_EVENTS)
        head = await client.response_head()

        async def is_stuck() -> bool:
            generation = await proxy.generation(head.headers["x-generation-id"])
            return generation["bytes"] > _SEND_BUFFER

        await wait_equal(True, is_stuck, what="more came than the kernel takes", within=20)
        yield client
