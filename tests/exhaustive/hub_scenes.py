"""Scenes on a hub, each short, for a blow to fall at every point of them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import trio

from tests.support.reading import Reading
from tests.support.source import DONE, ScriptedSource
from trioproxy.fanout import (
    Arrival,
    FanoutError,
    Generation,
    Hub,
    HubClosed,
    Limits,
    OnLag,
    SourceFailed,
)

KEY = "key"
LINGER = 5.0


@dataclass(eq=False)
class Player:
    """One subscriber of a scene, and what became of it."""

    after: int = 0
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    reading: Reading = field(default_factory=Reading)
    generation: Generation | None = None
    has_enough: bool = False
    was_refused: bool = False


class Engine:
    """Says the same to every call that is made of it, from the start."""

    def __init__(
        self,
        *,
        entering: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint,
        leaving: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint,
    ) -> None:
        self.calls: list[ScriptedSource] = []
        self._entering = entering
        self._leaving = leaving
        self._script: list[Callable[[ScriptedSource], None]] = []

    def call(self) -> ScriptedSource:
        """A call that can be made."""
        source = ScriptedSource(entering=self._entering, leaving=self._leaving)
        self.calls.append(source)
        for line in self._script:
            line(source)
        return source

    def say(self, line: Callable[[ScriptedSource], None]) -> None:
        self._script.append(line)
        for source in self.calls:
            line(source)

    def arrive(self, *messages: bytes | Arrival) -> None:
        self.say(lambda source: source.arrive(*messages))

    def complete(self, *messages: bytes | Arrival) -> None:
        self.say(lambda source: source.complete(*messages))

    def fail(self, error: SourceFailed) -> None:
        self.say(lambda source: source.fail(error))

    def end(self) -> None:
        self.say(lambda source: source.end())


class Scene:
    """A hub, an engine and who reads it."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.engines: list[Engine] = []
        self.players: list[Player] = []
        self.generations: dict[str, Generation] = {}

    def engine(
        self,
        *,
        entering: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint,
        leaving: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint,
    ) -> Engine:
        self.engines.append(Engine(entering=entering, leaving=leaving))
        return self.engines[-1]

    def start(self, key: str | None, engine: Engine, *, linger: float) -> None:
        """Start a whole call that nobody reads yet, unless the hub is closed."""
        with suppress(HubClosed):
            generation = self.hub.start(key, engine.call(), linger=linger, when_full="fail")
            self.generations[generation.id] = generation

    async def read(
        self,
        engine: Engine,
        *,
        after: int = 0,
        linger: float = 0,
        on_lag: OnLag = "wait",
        enough: float = math.inf,
        pause: float = 0,
    ) -> None:
        """Join, read to the end or until ``enough`` events are read, pausing after each batch, and
        leave."""
        player = Player(after)
        self.players.append(player)
        with player.scope:
            try:
                with self.hub.join(
                    KEY, engine.call(), after=after or None, linger=linger, on_lag=on_lag
                ) as subscriber:
                    generation = player.generation = subscriber.generation
                    self.generations[generation.id] = generation
                    async for batch in subscriber:
                        player.reading.told += ([batch.gap] if batch.gap else []) + batch.events
                        player.has_enough = len(player.reading.seqs) >= enough
                        if player.has_enough:
                            return
                        await trio.sleep(pause)
                    player.reading.end = subscriber.end
            except FanoutError:
                player.was_refused = True


Play = Callable[[Scene], Awaitable[None]]
LIMITS: dict[Play, Limits] = {}
PLAYS: list[Play] = []


def play(limits: Limits | None = None) -> Callable[[Play], Play]:
    """Register a scene, to be played within these limits."""

    def register(scene: Play) -> Play:
        PLAYS.append(scene)
        LIMITS[scene] = limits or Limits()
        return scene

    return register


@play()
async def join_then_leave(scene: Scene) -> None:
    engine = scene.engine()
    engine.arrive(b"1")
    engine.arrive(b"2")
    await scene.read(engine, enough=2)


@play()
async def late_join(scene: Scene) -> None:
    engine = scene.engine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.read, engine)
        engine.arrive(b"1", b"2")
        await trio.sleep(1)
        nursery.start_soon(scene.read, engine)
        engine.arrive(b"3")
        await trio.sleep(1)
        engine.complete(b"4")


@play()
async def last_leave_against_join(scene: Scene) -> None:
    engine = scene.engine()

    async def come_with_the_first_event() -> None:
        await trio.sleep(1)
        await scene.read(engine, enough=1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: scene.read(engine, enough=1))
        nursery.start_soon(come_with_the_first_event)
        await trio.sleep(1)
        engine.arrive(b"1")
        await trio.sleep(1)
        engine.end()


@play()
async def linger_expiring_against_join(scene: Scene) -> None:
    engine = scene.engine()
    engine.arrive(b"1")
    await scene.read(engine, enough=1, linger=LINGER)
    await trio.sleep(LINGER)
    engine.complete()
    await scene.read(engine)


@play()
async def cancel_against_completion(scene: Scene) -> None:
    engine = scene.engine()

    async def stop() -> None:
        await trio.sleep(1)
        for generation in scene.generations.values():
            generation.cancel("stopped")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.read, engine)
        nursery.start_soon(scene.read, engine)
        nursery.start_soon(stop)
        engine.arrive(b"1")
        await trio.sleep(1)
        engine.complete(b"2")


async def _fail_to_connect() -> None:
    await trio.lowlevel.checkpoint()
    raise SourceFailed("unreachable", "nobody there")


@play()
async def failure_before_the_first_event(scene: Scene) -> None:
    engine = scene.engine(entering=_fail_to_connect)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.read, engine)
        nursery.start_soon(scene.read, engine)


@play()
async def failure_at_the_first_event(scene: Scene) -> None:
    engine = scene.engine()
    engine.fail(SourceFailed("broken", "it broke"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.read, engine)
        nursery.start_soon(scene.read, engine)


@play()
async def failure_after_the_first_event(scene: Scene) -> None:
    engine = scene.engine()
    engine.arrive(b"1")
    engine.fail(SourceFailed("broken", "it broke"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.read, engine)
        nursery.start_soon(scene.read, engine)


@play()
async def truncation(scene: Scene) -> None:
    engine = scene.engine()
    engine.arrive(b"1", b"2")
    engine.end()
    await scene.read(engine)


async def _read_slowly(scene: Scene, on_lag: OnLag) -> None:
    engine = scene.engine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.read, engine)
        nursery.start_soon(lambda: scene.read(engine, on_lag=on_lag, pause=2.5))
        for number in range(1, 5):
            engine.arrive(b"%d" % number)
            await trio.sleep(1)
        engine.complete(b"5")


SHORT_OF_PATIENCE = Limits(max_lag=1)
SHORT_OF_ROOM = Limits(max_transcript_bytes=800)


@play()
async def slow_reader_waits(scene: Scene) -> None:
    await _read_slowly(scene, "wait")


@play(SHORT_OF_ROOM)
async def slow_reader_is_overtaken(scene: Scene) -> None:
    await _read_slowly(scene, "wait")


@play(SHORT_OF_PATIENCE)
async def slow_reader_skips(scene: Scene) -> None:
    await _read_slowly(scene, "skip")


@play(SHORT_OF_PATIENCE)
async def slow_reader_is_evicted(scene: Scene) -> None:
    await _read_slowly(scene, "evict")


@play()
async def resume(scene: Scene) -> None:
    engine = scene.engine()
    engine.arrive(b"1", b"2")
    await scene.read(engine, enough=2, linger=LINGER)
    engine.arrive(b"3")
    await trio.sleep(LINGER / 2)
    engine.complete(b"4")
    await scene.read(engine, after=2, linger=LINGER)


@play()
async def slow_to_open_and_to_close(scene: Scene) -> None:
    engine = scene.engine(entering=partial(trio.sleep, 1), leaving=partial(trio.sleep, 1))
    engine.arrive(b"1", DONE, b"the rest of the body")
    engine.end()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: scene.read(engine, enough=1))
        nursery.start_soon(scene.read, engine)


@play()
async def drain_and_shutdown(scene: Scene) -> None:
    engine, endless = scene.engine(), scene.engine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.read, engine)
        await trio.sleep(1)
        scene.start(None, endless, linger=math.inf)
        scene.hub.refuse()
        nursery.start_soon(scene.read, engine)
        engine.arrive(b"1")
        await trio.sleep(1)
        engine.complete(b"2")
        with trio.move_on_after(LINGER):
            await scene.hub.wait_idle()
        scene.hub.close()


@play()
async def whole_call(scene: Scene) -> None:
    engine = scene.engine()
    scene.start(KEY, engine, linger=LINGER)
    await trio.sleep(1)
    engine.complete(b"1", b"2", b"3")
    await scene.read(engine)
