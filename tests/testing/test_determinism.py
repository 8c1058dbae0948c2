"""Runs that go the same way each time."""

from __future__ import annotations

import pytest
import trio

from trioproxy.testing.determinism import deterministic

TASKS = "abcdefgh"


async def _order_of_steps() -> str:
    order: list[str] = []

    async def step(name: str) -> None:
        for _ in range(3):
            order.append(name)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for name in TASKS:
            nursery.start_soon(step, name)
    return "".join(order)


async def _order_of_waking() -> str:
    order: list[str] = []

    async def sleep(name: str) -> None:
        await trio.sleep(1)
        order.append(name)

    async with trio.open_nursery() as nursery:
        for name in TASKS:
            nursery.start_soon(sleep, name)
    return "".join(order)


async def _order_of_being_cancelled() -> str:
    order: list[str] = []

    async def wait(name: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            order.append(name)

    async with trio.open_nursery() as nursery:
        for name in TASKS:
            nursery.start_soon(wait, name)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return "".join(order)


def _run_order(seed: int) -> tuple[str, str, str]:
    with deterministic(seed):
        clock = trio.testing.MockClock(autojump_threshold=0)
        return (
            trio.run(_order_of_steps),
            trio.run(_order_of_waking, clock=clock),
            trio.run(_order_of_being_cancelled),
        )


@pytest.fixture(autouse=True)
def _as_trio_is_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what pytest-trio sets where Hypothesis is installed."""
    monkeypatch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", False)


def test_the_same_seed_gives_the_same_order_whatever_the_addresses_of_tasks() -> None:
    held: list[object] = []
    orders: set[object] = set()
    for number in range(10):
        orders.add(_run_order(3))
        held += [bytearray(number * 100) for _ in range(100)]

    assert len(orders) == 1


def test_other_seeds_give_other_orders() -> None:
    assert len({_run_order(seed) for seed in range(5)}) > 1


def test_the_order_is_still_any_order() -> None:
    steps, waking, cancelled = _run_order(3)

    assert TASKS not in (steps[: len(TASKS)], waking, cancelled)
    assert sorted(steps) == sorted(TASKS * 3)
    assert sorted(waking) == sorted(cancelled) == sorted(TASKS)


def _state_of_trio() -> tuple[object, bool]:
    runner = trio._core._run
    return runner._r.getstate(), runner._ALLOW_DETERMINISTIC_SCHEDULING


def test_after_the_block_trio_is_as_it_was() -> None:
    before = _state_of_trio()

    _run_order(3)

    assert _state_of_trio() == before


def test_after_a_failure_trio_is_as_it_was() -> None:
    before = _state_of_trio()

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("broken")

    with pytest.raises(KeyError), deterministic(3):
        trio.run(fail)

    assert _state_of_trio() == before


def test_blocks_can_nest() -> None:
    with deterministic(3):
        inner = _run_order(4)

    assert inner == _run_order(4)
