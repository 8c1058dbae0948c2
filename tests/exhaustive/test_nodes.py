"""A blow at every step of every task of two nodes that share: after each of them, all the laws."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio

from tests.cluster.programs import TERMS, Operation, World
from tests.exhaustive.tally import tally
from trioproxy.testing import Trial, cancel_at_every_checkpoint

AT_ONE, AT_TWO = 0, 1
MOMENT = 0.02
LONG = 2 * TERMS.lease

Play = Callable[[World], Awaitable[None]]


async def do(world: World, *steps: tuple[str, float]) -> None:
    """One after the other, each with what follows from it in a moment."""
    for name, argument in steps:
        await world.do(Operation(name, argument, False))
        await trio.sleep(MOMENT)


async def read_to_the_end(world: World) -> None:
    await do(world, ("join", AT_ONE), ("say", 0), ("join", AT_TWO), ("say much", 0), ("finish", 0))


async def leave_one_by_one(world: World) -> None:
    await do(world, ("join", AT_ONE), ("join", AT_TWO), ("say", 0), ("leave", 0), ("leave", 0))


async def read_what_has_ended(world: World) -> None:
    await do(world, ("join", AT_ONE), ("say", 0), ("finish", 0), ("read by id", 2))


async def stop_from_elsewhere(world: World) -> None:
    await do(world, ("join", AT_ONE), ("join", AT_TWO), ("say", 0), ("stop one", 1))


def strike_the_first_reader(world: World) -> None:
    for reader in world.readers[:1]:
        reader.scope.cancel(reason="struck")


def strike_the_second_reader(world: World) -> None:
    for reader in world.readers[1:2]:
        reader.scope.cancel(reason="struck")


def strike_the_owner(world: World) -> None:
    world.had_faults = True
    world.end_place(AT_ONE)


def strike_the_other(world: World) -> None:
    world.had_faults = True
    world.end_place(AT_TWO)


PLAYS: list[Play] = [
    read_to_the_end,
    leave_one_by_one,
    read_what_has_ended,
    stop_from_elsewhere,
]
STRIKES = [
    strike_the_first_reader,
    strike_the_second_reader,
    strike_the_owner,
    strike_the_other,
]


async def perform(play: Play, strike: Callable[[World], None], trial: Trial) -> World:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        for index in (AT_ONE, AT_TWO):
            await world.open_place(index)
        await trio.sleep(TERMS.lease)
        with trial.armed(lambda: strike(world)):
            await play(world)
        await trio.sleep(LONG)
        await world.end_calls()
        await trio.sleep(LONG)
        world.check_nothing_runs()
        nursery.cancel_scope.cancel(reason="it is over")
    return world


def check_laws(world: World) -> None:
    """What holds of a scene that is over."""
    world.look()
    for call in world.calls:
        assert len(call.entries) <= 1
        assert not call.is_open


@pytest.mark.parametrize("strike", STRIKES, ids=lambda strike: strike.__name__)
@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.__name__)
def test_all_laws_hold_whatever_is_struck_and_wherever(
    play: Play, strike: Callable[[World], None]
) -> None:
    tally.checkpoints += cancel_at_every_checkpoint(partial(perform, play, strike), check_laws)
