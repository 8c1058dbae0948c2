"""What is attacked, and what must be so when an attack is over."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from tests.attacks.engine import SOUND, RawEngine, open_engine
from tests.support.rawhttp import RawClient, open_client
from tests.web.service import COMPLETION, COMPLETIONS, Service, open_service, wait_until


@dataclass(frozen=True)
class Attacked(Service):
    """A proxy in front of an engine that keeps what it gets."""

    engine: RawEngine

    async def told(self, sent: bytes, *, within: float = 5.0) -> bytes:
        """All that is answered on a connection of its own to these bytes, until it is closed."""
        async with open_client(self.url) as client:
            await client.send(sent)
            return await read_to_end(client, within=within)


@asynccontextmanager
async def open_attacked(
    *, prefix: str = "", credentials: dict[str, str] | None = None, **settings: Any
) -> AsyncGenerator[Attacked]:
    """A proxy that must stand when the block is done: nothing runs, tasks and descriptors are as
    many as before, and the next request is answered. With tenants, ``credentials`` are an admin's.

    Calls of the engine that the proxy itself made to see that it stands are not among those that
    the block sees.
    """
    async with (
        open_engine() as engine,
        open_service(engine.url + prefix, upstream_keep_alive=0.0, **settings) as service,
    ):
        service.http.headers.update(credentials or {})
        attacked = Attacked(service.url, service.proxy, service.http, engine)
        await assert_answers(attacked)
        before = await _standing(attacked)
        engine.connections.clear()
        yield attacked
        engine.answer = SOUND
        await attacked.wait_released()

        async def is_as_before() -> bool:
            return await _standing(attacked) == before

        try:
            await wait_until(is_as_before)
        except trio.TooSlowError:
            raise AssertionError(f"{before} became {await _standing(attacked)}") from None
        await assert_answers(attacked)


async def _standing(service: Service) -> tuple[int, int, int]:
    census = (await service.http.get("/debug/census")).json()
    return census["tasks"], census["fds"], census["connections"]


async def assert_answers(service: Service) -> None:
    answer = await service.http.post(COMPLETIONS, json=COMPLETION)
    assert (answer.status_code, b"\ndata: [DONE]\n" in answer.content) == (200, True), answer.text


async def read_to_end(client: RawClient, *, within: float = 5.0) -> bytes:
    """The bytes that come until the connection is closed, in whatever way."""
    received = b""
    with trio.fail_after(within):
        try:
            while data := await client.read_some():
                received += data
        except trio.BrokenResourceError:
            pass
    return received


def statuses(answered: bytes) -> list[int]:
    """The status of each answer in what came over a connection."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) \r\n", answered)]
