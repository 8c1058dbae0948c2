"""What the demonstration is played on: an engine, the proxy in front of it, and their own counts.

What is measured of the two is asked of them over HTTP, as an operator would. Only which bodies the
engine received, and what it counts between two questions, is looked up in the engine itself.
"""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Literal

import msgspec
import trio

from trioproxy.config import Settings
from trioproxy.demo.reader import Reader, fetch
from trioproxy.serving import open_proxy
from trioproxy.simulator import EngineSettings, SimulatedEngine, Stats, open_engine

RATE = 90.0
"""Tokens per second: fast for an engine, slow enough to watch."""
POLL_SECONDS = 0.05
"""The pause between a question that is asked again and again and the next one."""
WRITE_TIMEOUT = 1.0
"""Seconds after which the proxy gives up a reader whose socket takes no byte; 30 by default."""


class Census(msgspec.Struct, frozen=True):
    """What is alive in the process, from ``GET /debug/census``; what is merely kept is left out."""

    tasks: int = 0
    fds: int = 0
    generations: int = 0
    subscribers: int = 0
    upstream_calls: int = 0
    connections: int = 0


class Progress(msgspec.Struct, frozen=True):
    """How far a generation is, from ``GET /v1/generations/{id}``."""

    state: Literal["running", "ended"] = "running"
    events: int = 0
    subscribers: int = 0


class Rig:
    """An engine and the proxy at ``url`` in front of it. It owns every reader that it makes.

    ``baseline`` is the census of it before anybody has asked for anything.
    """

    def __init__(self, engine: SimulatedEngine, url: str) -> None:
        self.engine = engine
        self.baseline = Census()
        self._url = url
        self._readers: list[Reader] = []

    def reader(
        self,
        body: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        receive_buffer: int | None = None,
    ) -> Reader:
        """A reader that has not asked yet; see :class:`~trioproxy.demo.reader.Reader`."""
        reader = Reader(self._url, body, headers=headers, receive_buffer=receive_buffer)
        self._readers.append(reader)
        return reader

    def leave_all(self) -> None:
        """Let every reader leave that has not left."""
        for reader in self._readers:
            reader.leave()
        self._readers.clear()

    async def stats(self) -> Stats:
        """What the engine counts. Raises, as the methods below, as `fetch` does."""
        return msgspec.json.decode(await fetch(self.engine.url + "/stats"), type=Stats)

    async def census(self) -> Census:
        """What is alive; the request that asks is counted in."""
        return msgspec.json.decode(await fetch(self._url + "/debug/census"), type=Census)

    async def progress(self, generation_id: str) -> Progress:
        """How far a generation is, by its own account."""
        body = await fetch(f"{self._url}/v1/generations/{generation_id}")
        return msgspec.json.decode(body, type=Progress)

    def calls_of(self, body: bytes) -> int:
        """How many calls with exactly this body the engine has received."""
        return sum(call.body == body for call in self.engine.calls)


@asynccontextmanager
async def open_rig() -> AsyncGenerator[Rig]:
    """Open engine and proxy on free ports of 127.0.0.1; on exit all that is open is closed."""
    settings = Settings(
        bind="127.0.0.1:0",
        coalesce="identical",
        write_timeout=WRITE_TIMEOUT,
        upstream_keep_alive=0.0,  # or what is left would be counted while connections are kept
        debug=True,
    )
    async with (
        open_engine(settings=EngineSettings(rate=RATE)) as engine,
        open_proxy(settings, upstream_url=engine.url) as proxy,
    ):
        rig = Rig(engine, proxy.binds[0])
        try:
            rig.baseline = await _settled_census(rig)
            yield rig
        finally:
            rig.leave_all()


async def _settled_census(rig: Rig) -> Census:
    """The census when two in a row are the same: the first request of all opens what stays open,
    and the connection of each takes a moment to go."""
    now = await rig.census()
    while True:
        await trio.sleep(POLL_SECONDS)
        before, now = now, await rig.census()
        if before == now:
            return now


def completion(prompt: str, *, tokens: int, seed: int, model: str = "simulated") -> bytes:
    """The body of a request for a streamed completion."""
    return json.dumps(
        {"model": model, "prompt": prompt, "seed": seed, "max_tokens": tokens, "stream": True}
    ).encode()
