"""The census names what is alive, and takes nothing else for a leak."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, Generator
from typing import Any
from weakref import ref

import pytest
import trio
from trio.testing import MockClock, assert_no_checkpoints, wait_all_tasks_blocked

from trioproxy.testing.census import Leaked, TaskCensus


@pytest.fixture
def no_collector() -> Generator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# What is alive, and how long.


async def test_what_was_there_before_is_not_counted(nursery: trio.Nursery) -> None:
    nursery.start_soon(trio.sleep_forever)
    channel = trio.open_memory_channel[None](1)
    with trio.CancelScope():
        async with trio.open_nursery():
            with TaskCensus() as census:
                assert census.alive == ()
    del channel


async def test_task_is_alive_until_it_has_exited(nursery: trio.Nursery) -> None:
    end = trio.Event()
    with TaskCensus() as census:
        nursery.start_soon(end.wait)
        assert census.counts == {"task": 1}

        end.set()
        await wait_all_tasks_blocked()
        assert census.counts == {}


async def test_started_task_is_counted_once(nursery: trio.Nursery) -> None:
    async def serve(task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            await trio.sleep_forever()

    with TaskCensus() as census:
        scope = await nursery.start(serve)
        assert census.counts == {"task": 1, "cancel scope": 1}

        scope.cancel()
        await census.settled()


async def test_system_task_is_counted() -> None:
    end = trio.Event()
    with TaskCensus() as census:
        trio.lowlevel.spawn_system_task(end.wait, name="a lasting one")
        assert [one.name for one in census.alive] == ["a lasting one"]

        end.set()
        await census.settled()


async def test_nursery_is_alive_until_its_block_is_left_and_its_scope_is_not_counted() -> None:
    with TaskCensus() as census:
        async with trio.open_nursery():
            assert census.counts == {"nursery": 1}
        assert census.counts == {}


async def test_nursery_that_is_left_by_an_exception_is_over() -> None:
    with TaskCensus() as census:
        with pytest.raises(ExceptionGroup):
            async with trio.open_nursery():
                raise ValueError
        assert census.counts == {}


async def test_scope_is_alive_from_its_entering_to_its_leaving() -> None:
    with TaskCensus() as census:
        scope = trio.CancelScope()
        assert census.counts == {}
        with scope:
            assert census.counts == {"cancel scope": 1}
        assert census.counts == {}


async def test_half_of_a_channel_is_alive_until_it_is_closed() -> None:
    with TaskCensus() as census:
        send, receive = trio.open_memory_channel[None](1)
        clone = send.clone()
        assert census.counts == {"send channel": 2, "receive channel": 1}

        send.close()
        await clone.aclose()
        assert census.counts == {"receive channel": 1}

        with receive:
            pass
        assert census.counts == {}


@pytest.mark.usefixtures("no_collector")
async def test_half_that_is_dropped_unclosed_is_alive_while_the_other_end_is_open() -> None:
    with TaskCensus() as census:
        send, receive = trio.open_memory_channel[None](1)
        del send
        assert [(one.kind, one.dropped) for one in census.alive] == [
            ("send channel", True),
            ("receive channel", False),
        ]
        assert str(census.alive[0]).startswith("send channel of <test")
        assert ", dropped unclosed\nmade at\n" in str(census.alive[0])

        receive.close()
        assert census.alive == ()


@pytest.mark.usefixtures("no_collector")
async def test_receiving_half_that_is_dropped_unclosed_is_missed_by_its_senders() -> None:
    with TaskCensus() as census:
        send, receive = trio.open_memory_channel[None](1)
        del receive
        assert census.counts == {"send channel": 1, "receive channel": 1}
        send.close()


@pytest.mark.usefixtures("no_collector")
async def test_channel_that_everybody_has_dropped_is_not_counted() -> None:
    with TaskCensus():
        send, receive = trio.open_memory_channel[None](1)
        del send, receive


# How it is named.


async def test_leak_is_named_with_its_making_and_where_it_waits(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def read_for_ever() -> None:
        await trio.sleep_forever()

    async def leaked_subscriber() -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(read_for_ever, name="its reader")

    async def leak() -> None:
        with TaskCensus() as census:
            nursery.start_soon(leaked_subscriber)
            await census.settled()

    with pytest.raises(Leaked) as failure:
        await leak()

    subscriber, inner, reader = failure.value.alive
    assert isinstance(failure.value, AssertionError)
    assert str(failure.value).startswith("still alive after 1.0 s: 2 x task, 1 x nursery\ntask ")
    assert str(failure.value).endswith("\n".join(map(str, failure.value.alive)))
    assert subscriber.name.endswith("leaked_subscriber")
    assert str(subscriber.created).endswith("in leak\n    nursery.start_soon(leaked_subscriber)")
    assert "in leaked_subscriber\n" in str(subscriber.waits)
    assert inner.name == subscriber.name
    assert str(inner.created).endswith(
        "in leaked_subscriber\n    async with trio.open_nursery() as inner:"
    )
    assert reader.name == "its reader"
    assert "in read_for_ever\n    await trio.sleep_forever()\n" in str(reader.waits)


async def test_what_trio_itself_asked_for_is_named_all_the_same() -> None:
    async with trio.open_nursery() as nursery:
        with TaskCensus() as census:
            nursery.start_soon(trio.sleep, 0.01)
            await wait_all_tasks_blocked()

            scope = census.alive[1]
            assert (scope.kind, scope.name) == ("cancel scope", "trio.sleep")
            assert str(scope.created).endswith("    with move_on_at(deadline):")
            await census.settled()


def test_deep_stack_is_kept_as_far_as_its_innermost_calls() -> None:
    def recurse(depth: int) -> None:
        if depth:
            recurse(depth - 1)
        else:
            kept.append(trio.open_memory_channel[None](1))

    kept = []
    with pytest.raises(Leaked) as leak, TaskCensus():
        recurse(100)

    assert {call[0] for call in leak.value.alive[0].created.calls} == {recurse.__code__}


def test_channel_of_no_task_is_named() -> None:
    with pytest.raises(Leaked) as leak, TaskCensus():
        halves = trio.open_memory_channel[None](1)

    assert len(halves) == 2
    assert [one.name for one in leak.value.alive] == ["no task"] * 2
    assert str(leak.value.alive[0].created).endswith("halves = trio.open_memory_channel[None](1)")


# Waiting.


async def test_settling_waits_for_what_ends_in_time(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    with TaskCensus() as census:
        nursery.start_soon(trio.sleep, 0.9)

        await census.settled()

    assert 0.9 <= trio.current_time() < 1.0


async def test_settling_where_nothing_is_alive_is_no_checkpoint() -> None:
    with TaskCensus() as census, assert_no_checkpoints():
        await census.settled(within=0)


async def test_who_waits_is_not_waited_for_nor_are_the_blocks_that_it_is_in(
    nursery: trio.Nursery,
) -> None:
    async def wait() -> None:
        with trio.fail_after(5):
            async with trio.open_nursery():
                await census.settled(within=0)
        settled.set()

    settled = trio.Event()
    with TaskCensus() as census:
        nursery.start_soon(wait)
        await settled.wait()
        await census.settled()


async def test_leak_is_found_although_another_task_ended(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def leak() -> None:
        with TaskCensus() as census:
            ending.set()
            nursery.start_soon(trio.sleep_forever, name="leaked")
            await census.settled()

    ending = trio.Event()
    nursery.start_soon(ending.wait)
    await wait_all_tasks_blocked()

    with pytest.raises(Leaked, match=r"after 1.0 s: 1 x task\ntask leaked\n"):
        await leak()


async def test_generator_that_is_left_in_its_scope_is_named() -> None:
    async def tokens() -> AsyncGenerator[str]:
        with trio.CancelScope():
            yield "token"

    started = tokens()
    with pytest.raises(Leaked, match="1 x cancel scope") as leak, TaskCensus():
        await anext(started)

    assert "in tokens\n    with trio.CancelScope():" in str(leak.value.alive[0].created)
    await started.aclose()


# Leaving it.


async def test_leaving_with_something_alive_fails() -> None:
    message = r"^still alive: 1 x send channel, 1 x receive channel\n"
    with pytest.raises(Leaked, match=message), TaskCensus():
        channel = trio.open_memory_channel[None](1)

    assert len(channel) == 2


async def test_exception_underway_is_given_a_note_and_its_way() -> None:
    def leak_and_raise() -> None:
        with TaskCensus():
            kept.append(trio.open_memory_channel[None](1))
            raise cause

    kept = []
    cause = ValueError("the cause")
    with pytest.raises(ValueError, match="the cause") as failure:
        leak_and_raise()

    assert failure.value is cause
    [note] = cause.__notes__
    assert note.startswith("still alive: 1 x send channel, 1 x receive channel\nsend channel of")


async def test_exception_underway_gets_no_note_where_nothing_is_alive() -> None:
    with pytest.raises(ValueError, match=r"^the cause$") as failure, TaskCensus():
        raise ValueError("the cause")

    assert not hasattr(failure.value, "__notes__")


class Large:
    """Something that only a frame holds."""


@pytest.mark.usefixtures("no_collector")
async def test_nothing_that_is_counted_is_kept_alive(nursery: trio.Nursery) -> None:
    def open_with(large: Large) -> trio.MemorySendChannel[None]:
        send, receive = trio.open_memory_channel[None](1)
        receive.close()
        return send

    async def hold(large: Large) -> None:
        async with trio.open_nursery() as inner:
            nurseries.append(ref(inner))
            scopes.append(ref(inner.cancel_scope))
            tasks.append(ref(trio.lowlevel.current_task()))

    nurseries: list[ref[trio.Nursery]] = []
    scopes: list[ref[trio.CancelScope]] = []
    tasks: list[ref[trio.lowlevel.Task]] = []
    larges: list[ref[Large]] = []
    with TaskCensus() as census:
        large = Large()
        larges.append(ref(large))
        nursery.start_soon(hold, large)
        send = open_with(large)
        del large
        await wait_all_tasks_blocked()
        assert census.counts == {"send channel": 1}
        channel = ref(send)
        send.close()
        del send

        gone = [one() for one in (*nurseries, *scopes, *tasks, *larges, channel)]
        assert gone == [None] * 5


@pytest.mark.usefixtures("no_collector")
async def test_channel_that_everybody_has_dropped_is_forgotten() -> None:
    namespace: dict[str, Any] = {"trio": trio}
    exec("def drop_a_channel(): trio.open_memory_channel(1)", namespace)
    drop_a_channel = namespace.pop("drop_a_channel")
    code = ref(drop_a_channel.__code__)
    with TaskCensus():
        drop_a_channel()
        del drop_a_channel

        assert code() is None
