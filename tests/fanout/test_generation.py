"""One call as its callers see it: its head, its times, and how outcomes compare."""

from __future__ import annotations

import time

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.source import ScriptedSource
from trioproxy.fanout import COMPLETED, Outcome, cancelled, failed, open_hub


async def test_the_head_is_what_entering_the_source_brought() -> None:
    head = object()
    may_enter = trio.Event()
    source = ScriptedSource(head=head, entering=may_enter.wait)
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            await wait_all_tasks_blocked()
            before = subscriber.generation.head
            may_enter.set()
            await subscriber.generation.wait_opened()

            assert (before, subscriber.generation.head) == (None, head)


async def test_waiting_for_the_head_ends_with_the_generation() -> None:
    async with open_hub() as hub, trio.open_nursery() as nursery:
        generation = hub.start(None, ScriptedSource(entering=trio.sleep_forever), linger=30)
        nursery.start_soon(generation.wait_opened)
        await wait_all_tasks_blocked()
        generation.cancel("stopped")
        await wait_all_tasks_blocked()

        assert nursery.child_tasks == frozenset()
        assert generation.head is None


async def test_its_times_are_told_by_the_wall_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wall_clock() -> float:
        return now

    monkeypatch.setattr(time, "time", wall_clock)
    now = 100.0
    source = ScriptedSource()
    async with open_hub() as hub:
        generation = hub.start(None, source, linger=30)
        await wait_all_tasks_blocked()
        assert (generation.first_event_at, generation.ended_at) == (None, None)
        now = 101.0
        source.arrive(b"a")
        await wait_all_tasks_blocked()
        now = 102.0
        source.arrive(b"b")
        await wait_all_tasks_blocked()
        now = 103.0
        source.complete()
        await wait_all_tasks_blocked()

    assert (generation.created_at, generation.first_event_at, generation.ended_at) == (
        100.0,
        101.0,
        103.0,
    )


async def test_a_generation_that_was_never_answered_has_no_first_event(
    autojump_clock: MockClock,
) -> None:
    source = ScriptedSource()
    source.arrive()  # a read that brought no whole message
    async with open_hub() as hub:
        generation = hub.start(None, source, linger=30)
        await trio.sleep(30)
        await wait_all_tasks_blocked()

        assert generation.first_event_at is None
        assert generation.ended_at is not None


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (failed("reset", ValueError()), failed("reset"), True),
        (failed("upstream", told=True), failed("upstream"), True),
        (failed("reset"), failed("timeout"), False),
        (failed("stopped"), cancelled("stopped"), False),
        (COMPLETED, Outcome("completed"), True),
    ],
)
def test_outcomes_are_the_same_by_their_kind_and_reason(
    one: Outcome, other: Outcome, expected: bool
) -> None:
    assert expected == (one == other)
