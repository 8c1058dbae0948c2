"""Law 6: what decides the end of a generation ends it there and then: outcome told, key free,
nothing said after it; only the rest of the body is read, on a deadline that no leave moves."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import pytest
import trio
from trio.testing import MockClock, assert_no_checkpoints, wait_all_tasks_blocked

from tests.support.reading import Reading, read_to_end
from tests.support.source import DONE, ScriptedSource
from trioproxy.fanout import (
    COMPLETED,
    Arrival,
    Generation,
    Hub,
    Limits,
    Outcome,
    SourceFailed,
    cancelled,
    failed,
    grace,
    open_hub,
)
from trioproxy.fanout.generation import FINISH_SECONDS

# -- decided on this side --------------------------------------------------------------------------


def assert_ended(hub: Hub, generation: Generation, outcome: Outcome) -> None:
    assert outcome == generation.outcome
    assert generation not in hub.running
    assert generation in hub.retained
    assert hub.find("key") is None


async def test_cancel_ends_it_in_the_same_step() -> None:
    async with open_hub() as hub:
        with hub.join("key", ScriptedSource()) as subscriber, assert_no_checkpoints():
            subscriber.generation.cancel("stopped")

            assert_ended(hub, subscriber.generation, cancelled("stopped"))


async def test_the_last_leave_ends_it_in_the_same_step() -> None:
    async with open_hub() as hub:
        with assert_no_checkpoints():
            with hub.join("key", ScriptedSource()) as subscriber:
                pass

            assert_ended(hub, subscriber.generation, cancelled("abandoned"))


async def test_an_expiry_ends_it_in_the_step_that_sees_it(mock_clock: MockClock) -> None:
    async with open_hub(Limits(max_seconds=60)) as hub:
        with hub.join("key", ScriptedSource()) as subscriber, assert_no_checkpoints():
            mock_clock.jump(60)
            hub.find("key")

            assert_ended(hub, subscriber.generation, cancelled("deadline"))


async def test_closing_the_hub_ends_all_in_the_same_step() -> None:
    async with open_hub() as hub:
        one = hub.start("key", ScriptedSource(), linger=30)
        other = hub.start(None, ScriptedSource(), linger=30)
        with assert_no_checkpoints():
            hub.close()

            assert_ended(hub, one, cancelled("shutdown"))
            assert_ended(hub, other, cancelled("shutdown"))


# -- decided by the source -------------------------------------------------------------------------


class Witness(ScriptedSource):
    """Notes the outcome, and whether the key is taken, whenever it is read on and when left."""

    def __init__(self, hub: Hub) -> None:
        super().__init__()
        self.generation = hub.start("key", self, linger=30)
        self.seen: list[tuple[Outcome | None, bool]] = []
        self._hub = hub

    def _look(self) -> None:
        self.seen.append((self.generation.outcome, self._hub.find("key") is not None))

    async def __anext__(self) -> Sequence[Arrival]:
        self._look()
        return await super().__anext__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._look()
        await super().__aexit__(exc_type, error, traceback)


RUNNING = (None, True)


async def test_a_terminal_event_ends_it_before_the_body_is_read_on() -> None:
    async with open_hub() as hub:
        source = Witness(hub)
        source.arrive(b"a")
        source.complete()
        await wait_all_tasks_blocked()

    ended = (COMPLETED, False)
    assert [RUNNING, RUNNING, ended, ended] == source.seen


async def test_a_failure_ends_it_before_the_source_is_left() -> None:
    async with open_hub() as hub:
        source = Witness(hub)
        source.fail(SourceFailed("reset", "the connection was reset"))
        await wait_all_tasks_blocked()

    assert [RUNNING, (failed("reset"), False)] == source.seen


async def test_a_truncation_ends_it_before_the_source_is_left() -> None:
    async with open_hub() as hub:
        source = Witness(hub)
        source.end()
        await wait_all_tasks_blocked()

    assert [RUNNING, (failed("truncated"), False)] == source.seen


async def test_a_linger_that_is_over_ends_it_before_the_source_is_left(
    autojump_clock: MockClock,
) -> None:
    async with open_hub() as hub:
        source = Witness(hub)
        await trio.sleep(100)

    assert [RUNNING, (cancelled("abandoned"), False)] == source.seen


async def leave_in_good_order() -> None:
    with grace(5):
        await trio.sleep(1)


async def test_a_subscriber_hears_of_the_deadline_before_the_source_is_left(
    autojump_clock: MockClock,
) -> None:
    source = ScriptedSource(leaving=leave_in_good_order)
    async with open_hub(Limits(max_seconds=60)) as hub:
        with hub.join("key", source) as subscriber:
            reading = await read_to_end(subscriber)

            assert reading.end == cancelled("deadline")
            assert source.is_open

    assert [passage.at for passage in source.exits] == [61]


async def test_a_cancelled_owner_ends_it_before_the_source_is_left(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def keep_a_hub(
        task_status: trio.TaskStatus[tuple[trio.CancelScope, Generation]],
    ) -> None:
        with trio.CancelScope() as scope:
            async with open_hub() as hub:
                task_status.started((scope, hub.start("key", source, linger=30)))
                await trio.sleep_forever()

    source = ScriptedSource(leaving=leave_in_good_order)
    owner, generation = await nursery.start(keep_a_hub)
    await generation.wait_opened()
    owner.cancel()
    await wait_all_tasks_blocked()

    assert generation.outcome == cancelled("shutdown")
    assert source.is_open


async def test_what_ends_with_an_owner_that_tidies_up_first_was_shut_down_too(
    autojump_clock: MockClock,
) -> None:
    async def keep_a_hub(task_status: trio.TaskStatus[Generation]) -> None:
        async with open_hub() as hub:
            task_status.started(hub.start("key", ScriptedSource(), linger=30))
            try:
                await trio.sleep_forever()
            finally:
                await leave_in_good_order()

    async with trio.open_nursery() as owners:
        generation = await owners.start(keep_a_hub)
        await generation.wait_opened()
        owners.cancel_scope.cancel()

    assert generation.outcome == cancelled("shutdown")


async def test_the_key_is_free_while_the_old_body_is_read_to_its_end(
    autojump_clock: MockClock,
) -> None:
    old_source, new_source = ScriptedSource(), ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", old_source):
            old_source.arrive(DONE)
            await wait_all_tasks_blocked()
            with hub.join("key", new_source):
                await wait_all_tasks_blocked()

                assert (old_source.is_open, new_source.is_open) == (True, True)


# -- nothing after it ------------------------------------------------------------------------------


async def test_what_follows_the_terminal_event_is_not_appended(autojump_clock: MockClock) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            source.arrive(b"a", DONE, b"in the same read")
            source.arrive(b"in another read")
            reading = await read_to_end(subscriber)
            await wait_all_tasks_blocked()

            assert reading.data == [b"a", b"[DONE]"]
            assert subscriber.generation.transcript.last == 2


async def test_what_had_arrived_when_it_was_cancelled_is_not_appended() -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            await wait_all_tasks_blocked()
            source.arrive(b"on its way to the reader")
            subscriber.generation.cancel("stopped")
            await wait_all_tasks_blocked()

            assert subscriber.generation.transcript.last == 0


async def test_the_first_outcome_stands(autojump_clock: MockClock) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            source.arrive(DONE)
            await wait_all_tasks_blocked()
            subscriber.generation.cancel("stopped")
            source.fail(SourceFailed("reset", "too late to matter"))
            await wait_all_tasks_blocked()

        assert subscriber.generation.outcome == COMPLETED


# -- the rest of the body --------------------------------------------------------------------------


async def test_leaving_after_the_outcome_lets_the_reader_finish_the_body(
    autojump_clock: MockClock,
) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            source.arrive(DONE)
            await read_to_end(subscriber)
        await trio.sleep(FINISH_SECONDS / 2)
        assert source.is_open
        source.end()
        await wait_all_tasks_blocked()

        assert subscriber.generation.outcome == COMPLETED
        assert [passage.error for passage in source.exits] == [None]


@pytest.mark.parametrize("stays_for", [0.0, 1.0, 60.0])
async def test_a_body_that_does_not_end_is_cut_on_its_deadline_whoever_stays(
    stays_for: float, autojump_clock: MockClock
) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source, linger=30) as subscriber:
            await trio.sleep(10)
            source.arrive(DONE)
            await read_to_end(subscriber)
            await trio.sleep(stays_for)
        await trio.sleep(100)

        assert [passage.at for passage in source.exits] == [10 + FINISH_SECONDS]
        assert subscriber.generation.outcome == COMPLETED


async def test_a_late_joiner_does_not_move_the_deadline_of_the_body(
    autojump_clock: MockClock,
) -> None:
    source = ScriptedSource()
    source.arrive(DONE)
    async with open_hub() as hub:
        generation = hub.start("key", source, linger=30)
        await trio.sleep(FINISH_SECONDS / 2)
        with hub.subscribe(generation.id, linger=30):
            await trio.sleep(100)

    assert [passage.at for passage in source.exits] == [FINISH_SECONDS]


async def test_a_source_that_hangs_in_leaving_is_cut_on_the_same_deadline(
    autojump_clock: MockClock,
) -> None:
    source = ScriptedSource(leaving=trio.sleep_forever)
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            source.complete()
            await read_to_end(subscriber)
        await trio.sleep(100)

    assert [passage.at for passage in source.exits] == [FINISH_SECONDS]


async def test_a_late_cancel_does_not_cut_the_body(autojump_clock: MockClock) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            source.arrive(DONE)
            await read_to_end(subscriber)
            subscriber.generation.cancel("stopped")
            await wait_all_tasks_blocked()

            assert source.is_open


async def test_a_reader_of_an_ended_generation_still_gets_all_of_it(
    autojump_clock: MockClock,
) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            source.arrive(b"a", b"b", DONE)
            await wait_all_tasks_blocked()
        await trio.sleep(FINISH_SECONDS * 2)
        reading = Reading()
        with hub.subscribe(subscriber.generation.id) as late:
            await reading.follow(late)

    assert (reading.data, reading.end) == ([b"a", b"b", b"[DONE]"], COMPLETED)
