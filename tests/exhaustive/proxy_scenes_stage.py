"""What is played, and what it is played on: a proxy, its upstream, and who comes to it."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from tests.exhaustive.proxy_scenes_clients import STATUSES, Answer, Client
from tests.exhaustive.proxy_scenes_engine import Engine, Script, tell_in_one_piece
from trioproxy.config import Settings
from trioproxy.serving import Proxy
from trioproxy.serving.proxy import FAREWELL_SECONDS
from trioproxy.testing.network import VirtualNetwork
from trioproxy.testing.proxy import open_virtual_proxy
from trioproxy.testing.upstream import ScriptedUpstream


class Scene:
    """What a play is given, and what a blow can hit. ``proxy`` is there once :meth:`serve` has
    started."""

    def __init__(self, settings: Settings, network: VirtualNetwork, engine: Engine) -> None:
        self.settings = settings
        self.network = network
        self.engine = engine
        self.clients: list[Client] = []
        self.proxy: Proxy
        self.proxy_scope = trio.CancelScope()
        self._closing = trio.Event()
        self._closed = trio.Event()
        self._task: trio.lowlevel.Task

    @property
    def answers(self) -> list[Answer]:
        """What the clients were told; the clients in the order in which they came."""
        return [answer for client in self.clients for answer in client.answers]

    @property
    def is_closing(self) -> bool:
        """Whether the proxy takes no more clients, or will soon not."""
        return self._closing.is_set() or self.proxy_scope.cancel_called

    @property
    def tasks(self) -> list[str]:
        """The names of the proxy's tasks."""
        pending, names = [*self._task.child_nurseries], list[str]()
        while pending:
            for task in pending.pop().child_tasks:
                names.append(task.name)
                pending += task.child_nurseries
        return sorted(names)

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Run the proxy, from its start to the shutdown that :meth:`shut_down` asks for."""
        self._task = trio.lowlevel.current_task()
        try:
            with self.proxy_scope:
                async with open_virtual_proxy(
                    self.network, self.settings, upstream_url=self.engine.upstream.url
                ) as self.proxy:
                    task_status.started()
                    await self._closing.wait()
                    await self.proxy.shutdown()
        finally:
            self._closed.set()

    async def shut_down(self) -> None:
        """Shut the proxy down in good order, and wait until it is gone: for as long as it may
        take."""
        self._closing.set()
        with trio.fail_after(self.settings.drain + FAREWELL_SECONDS + 0.5):
            await self._closed.wait()

    @contextmanager
    def client(self, *, rcvbuf: int | None = None) -> Generator[Client]:
        """A client of the proxy, for the length of the block or until a blow ends it."""
        client = Client(
            lambda: self.is_closing, rcvbuf=rcvbuf, patience=self.settings.write_timeout
        )
        self.clients.append(client)
        with client.scope:
            try:
                yield client
            finally:
                client.close()

    async def read(
        self,
        headers: Mapping[str, str] | None = None,
        *,
        enough: float = math.inf,
        pause: float = 0,
        rcvbuf: int | None = None,
    ) -> None:
        """Ask for the stream that all clients of a scene share, and read it; see
        :meth:`Client.ask`."""
        with self.client(rcvbuf=rcvbuf) as client:
            shared = {"X-Fanout": "replay", **(headers or {})}
            await client.ask(headers=shared, enough=enough, pause=pause)


@asynccontextmanager
async def open_scene(settings: Settings, network: VirtualNetwork) -> AsyncGenerator[Scene]:
    """Set a scene: when the block begins, engine and proxy listen, and nobody has come."""
    with network, ScriptedUpstream(str(settings.upstream)) as upstream:
        async with trio.open_nursery() as nursery:
            engine = Engine(upstream, nursery)
            await engine.listen()
            scene = Scene(settings, network, engine)
            await nursery.start(scene.serve)
            await wait_all_tasks_blocked()
            yield scene
            nursery.cancel_scope.cancel(reason="the scene is over")


Play = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True)
class Terms:
    """What a play needs, and what must come of it.

    ``stories`` are those of its answers (:attr:`Answer.story`), alternatives divided by a bar, and
    ``calls`` is how often the upstream is called: where no blow falls. ``codes`` are the failures
    that clients may be told, with a blow or without. ``lingers``: calls may outlive the clients for
    a while. ``next_script`` is how the engine answers whoever comes after it.
    """

    stories: tuple[str, ...]
    calls: int
    codes: frozenset[str]
    lingers: bool
    next_script: Script
    settings: dict[str, Any]


TERMS: dict[Play, Terms] = {}


def play(
    *stories: str,
    calls: int = 1,
    codes: str = "",
    lingers: bool = False,
    next_script: Script = tell_in_one_piece,
    **settings: Any,
) -> Callable[[Play], Play]:
    """Register a play on these terms: ``codes`` beside those in its stories, and the proxy's
    ``settings``."""
    words = frozenset(" ".join([*stories, codes]).split())

    def register(scene_of: Play) -> Play:
        told = words & STATUSES.keys()
        TERMS[scene_of] = Terms(stories, calls, told, lingers, next_script, settings)
        return scene_of

    return register
