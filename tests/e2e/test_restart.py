"""One proxy goes, another comes, and nobody is lost: counted at the clients and at the engine."""

from __future__ import annotations

import json
import socket
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import pytest
import trio

from tests.e2e.commands import Proxy, Simulator, open_proxy, open_simulator
from tests.e2e.streams import COMPLETION, DONE, post
from tests.support.rawhttp import open_client

DRAIN = 4.0
STREAMS = 200
"""Half of them end within the drain, the others never."""
RATE = 5.0
"""Tokens per second, of each."""
CALLS_PER_SECOND = 50
BEFORE, AFTER = 0.5, 0.5
"""Seconds of new calls before the first proxy is told to go, and after it has gone."""
PATIENCE = 20.0
"""The most that a call may wait: nothing is refused, but who comes between two processes waits."""

BRIEF = {"x-sim-tokens": "8", "x-sim-rate": "0"}
FINISHING = {"x-sim-tokens": str(int(RATE * DRAIN * 0.75)), "x-sim-rate": str(RATE)}
ENDLESS = {"x-sim-tokens": "1000000", "x-sim-rate": str(RATE)}


class End(NamedTuple):
    """When a stream ended, in trio's time, and what it said before it was done."""

    at: float
    words: bytes


@dataclass
class Clients:
    """All clients, and how they fared: for each kind the ends of its streams, and what went
    wrong."""

    url: str
    ends: dict[str, list[End]] = field(default_factory=lambda: defaultdict(list))
    wrong: list[str] = field(default_factory=list[str])
    streaming: int = 0
    patience: float = PATIENCE

    async def stream(self, kind: str, headers: dict[str, str]) -> None:
        """One stream, to its end."""
        try:
            with trio.fail_after(self.patience):
                words = await self._stream(headers)
        except (OSError, trio.TooSlowError, trio.BrokenResourceError, AssertionError) as error:
            self.wrong.append(f"{kind}: {error!r}")
        else:
            self.ends[kind].append(End(trio.current_time(), words))

    async def _stream(self, headers: dict[str, str]) -> bytes:
        last = [b"", b""]
        async with open_client(self.url) as client:
            await post(client, COMPLETION, headers=headers)
            head = await client.response_head(within=self.patience)
            assert head.status == 200, f"{head.status}: {await client.body()!r}"
            self.streaming += 1
            while (event := await client.next_event(within=self.patience)) is not None:
                last = [last[1], event.data]
            assert client.ended_properly, "it was cut"
        assert last[1] == DONE
        return last[0]

    async def call_again_and_again(
        self, nursery: trio.Nursery, per_second: float = CALLS_PER_SECOND
    ) -> None:
        """New calls, each on a connection of its own, until cancelled."""
        while True:
            nursery.start_soon(self.stream, "brief", BRIEF)
            await trio.sleep(1 / per_second)


@asynccontextmanager
async def open_load(url: str) -> AsyncGenerator[Clients]:
    """The streams that live, and new calls for the length of the block. It is left when every
    client is through."""
    clients = Clients(url)
    async with trio.open_nursery() as all_clients:
        for _ in range(STREAMS // 2):
            all_clients.start_soon(clients.stream, "endless", ENDLESS)
            all_clients.start_soon(clients.stream, "finishing", FINISHING)
        with trio.fail_after(PATIENCE):
            while clients.streaming < STREAMS:  # noqa: ASYNC110 - nothing tells
                await trio.sleep(0.01)
        async with trio.open_nursery() as calling:
            calling.start_soon(clients.call_again_and_again, all_clients)
            await trio.sleep(BEFORE)
            yield clients
            await trio.sleep(AFTER)
            calling.cancel_scope.cancel()


@pytest.fixture
def engine() -> Iterator[Simulator]:
    with open_simulator("--ttft", "0") as simulator:
        yield simulator


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


async def start(processes: ExitStack, engine: Simulator, *options: str, **handed: socket.socket):
    opening = partial(open_proxy, engine.url, "--drain", str(DRAIN), *options, **handed)
    return await trio.to_thread.run_sync(lambda: processes.enter_context(opening()))


async def end(proxy: Proxy) -> float:
    """Have it go; returns when it was told to."""
    told_at = trio.current_time()
    proxy.process.terminate()
    assert await proxy.wait_exit(within=DRAIN + 5) == 0
    return told_at


async def assert_nobody_was_lost(clients: Clients, engine: Simulator, told_at: float) -> None:
    endless, finishing, brief = (clients.ends[kind] for kind in ("endless", "finishing", "brief"))
    assert clients.wrong == []
    assert (len(endless), len(finishing)) == (STREAMS // 2, STREAMS // 2)
    assert {json.loads(end.words)["error"]["code"] for end in endless} == {"shutting_down"}
    assert min(end.at for end in endless) >= told_at + DRAIN
    assert not any(b'"error"' in end.words for end in finishing + brief)
    assert len(brief) > CALLS_PER_SECOND * DRAIN / 2
    await engine.wait_active(0)
    stats = await engine.stats()
    assert stats["calls"] == STREAMS + len(brief)
    assert stats["aborted"] == STREAMS // 2
    assert stats["completed"] == STREAMS // 2 + len(brief)


async def test_a_process_beside_the_old_one_takes_over(
    processes: ExitStack, engine: Simulator
) -> None:
    old = await start(processes, engine, "--reuse-port")
    bind = old.url.removeprefix("http://")

    async with open_load(old.url) as clients:
        new = await start(processes, engine, "--reuse-port", "--bind", bind)
        told_at = await end(old)

    assert new.url == old.url
    await assert_nobody_was_lost(clients, engine, told_at)


async def test_a_process_after_the_old_one_takes_over_its_socket(
    processes: ExitStack, engine: Simulator
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        old = await start(processes, engine, handed_over=listener)

        async with open_load(old.url) as clients:
            told_at = await end(old)
            new = await start(processes, engine, handed_over=listener)

        assert new.url == old.url
    await assert_nobody_was_lost(clients, engine, told_at)
