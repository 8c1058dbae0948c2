"""A blow at every step of every task of a hub: after each of them, all the laws."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import trio

from tests.exhaustive.hub_scenes import KEY, LIMITS, PLAYS, Play, Player, Scene
from tests.exhaustive.tally import tally
from tests.support.reading import read_to_end
from tests.support.source import ScriptedSource
from trioproxy.fanout import COMPLETED, Event, Evicted, Outcome, open_hub
from trioproxy.testing import Trial, cancel_at_every_checkpoint

SEEDS = range(2)
LONG = 60.0
"""Virtual seconds in which any linger is over and any source has been left."""


class Stage:
    """What a blow can hit: the scene, and the block of its hub."""

    def __init__(self, scene: Scene, hub_scope: trio.CancelScope) -> None:
        self.scene = scene
        self.hub_scope = hub_scope


def strike_first(stage: Stage) -> None:
    for player in stage.scene.players[:1]:
        player.scope.cancel(reason="struck")


def strike_second(stage: Stage) -> None:
    for player in stage.scene.players[1:2]:
        player.scope.cancel(reason="struck")


def strike_all_subscribers(stage: Stage) -> None:
    for player in stage.scene.players:
        player.scope.cancel(reason="struck")


def strike_reader(stage: Stage) -> None:
    for generation in list(stage.scene.hub.running):
        generation.cancel("struck")


def strike_hub(stage: Stage) -> None:
    stage.hub_scope.cancel(reason="struck")


def shut_down(stage: Stage) -> None:
    stage.scene.hub.close()


STRIKES = [
    strike_first,
    strike_second,
    strike_all_subscribers,
    strike_reader,
    strike_hub,
    shut_down,
]


async def perform(play: Play, strike: Callable[[Stage], None], trial: Trial) -> Scene:
    with trio.CancelScope() as hub_scope:
        async with open_hub(LIMITS[play]) as hub:
            scene = Scene(hub)
            stage = Stage(scene, hub_scope)
            with trial.armed(lambda: strike(stage)):
                await play(scene)
            for player in scene.players:
                check_it_has_its_end(player)
            await trio.sleep(LONG)
            check_nothing_runs(scene)
            if not (trial.struck and strike is shut_down) and play.__name__ != "drain_and_shutdown":
                await check_the_next_is_served(scene)
    return scene


def check_it_has_its_end(player: Player) -> None:
    """Law 5: who was not sent away or cancelled, and did not leave of itself, was told an end."""
    assert (
        player.has_enough
        or player.was_refused
        or player.scope.cancelled_caught
        or player.reading.end is not None
    )


def check_nothing_runs(scene: Scene) -> None:
    """Laws 3 and 7."""
    assert list(scene.hub.running) == []
    assert scene.hub.find(KEY) is None


async def check_the_next_is_served(scene: Scene) -> None:
    """Law 11."""
    source = ScriptedSource()
    source.complete(b"next")
    with scene.hub.join(KEY, source) as subscriber:
        reading = await read_to_end(subscriber)
    assert reading.data == [b"next", b"[DONE]"]
    assert reading.end == COMPLETED


def check_laws(scene: Scene) -> None:
    """What holds of a scene that is over, even if its hub was cancelled in the middle of it."""
    for call in (call for engine in scene.engines for call in engine.calls):  # laws 1 and 7
        assert len(call.entries) <= 1
        assert not call.is_open
    for generation in scene.generations.values():  # laws 3 and 6
        assert generation.outcome is not None
        assert generation.subscribers == set()
        assert generation.waiting == set()
    for player in scene.players:  # law 5
        check_reading(player)


def check_reading(player: Player) -> None:
    reading, generation = player.reading, player.generation
    told = reading.accounted
    assert told == list(range(player.after + 1, player.after + 1 + len(told)))
    if generation is None:
        assert told == []
        return
    last = generation.transcript.last
    for item in reading.told:
        if isinstance(item, Event):
            assert item.data in (b"%d" % item.seq, b"[DONE]")
            assert item.data != b"[DONE]" or item.seq == last
    if isinstance(reading.end, Outcome):
        assert reading.end is generation.outcome
        assert player.after + len(told) == last
    elif reading.end is not None:
        assert reading.end in (Evicted("slow"), Evicted("draining"))


@pytest.mark.parametrize("strike", STRIKES, ids=lambda strike: strike.__name__)
@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.__name__)
def test_all_laws_hold_whatever_is_struck_and_wherever(
    play: Play, strike: Callable[[Stage], None]
) -> None:
    for seed in SEEDS:
        tally.checkpoints += cancel_at_every_checkpoint(
            partial(perform, play, strike), check_laws, seed=seed
        )
