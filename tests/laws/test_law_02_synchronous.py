"""Law 2: joining and leaving are single steps that nothing can come between, and a task that is
cancelled, wherever it stands, leaves as it unwinds."""

from __future__ import annotations

import inspect
from contextlib import ExitStack

import pytest
import trio
from trio.testing import assert_no_checkpoints, wait_all_tasks_blocked

from tests.support.source import ScriptedSource
from tests.support.stepping import AtStep
from trioproxy.fanout import Generation, Hub, Subscriber, Transcript, cancelled, open_hub


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (Hub, {"wait_draining", "wait_idle"}),
        (Generation, {"run", "wait_opened", "_read"}),
        (Subscriber, {"__anext__", "lend"}),
        (Transcript, set[str]()),
    ],
)
def test_only_what_waits_is_asynchronous(cls: type, expected: set[str]) -> None:
    asynchronous = {
        name
        for name, member in inspect.getmembers(cls, inspect.isfunction)
        if inspect.iscoroutinefunction(inspect.unwrap(member))
        or inspect.isasyncgenfunction(inspect.unwrap(member))
    }

    assert expected == asynchronous


async def test_no_step_of_another_task_lies_in_joining_or_leaving() -> None:
    async with open_hub() as hub:
        with assert_no_checkpoints():
            with hub.join("key", ScriptedSource()) as first:
                with hub.join("key", ScriptedSource()) as second:
                    assert {first, second} == first.generation.subscribers
                assert {first} == first.generation.subscribers
            assert set[Subscriber]() == first.generation.subscribers


async def test_a_cancelled_task_has_left_when_its_block_is_done() -> None:
    async with open_hub() as hub:
        with trio.CancelScope() as scope, hub.join("key", ScriptedSource()) as subscriber:
            scope.cancel()
            await anext(subscriber)

        assert set[Subscriber]() == subscriber.generation.subscribers
        assert cancelled("abandoned") == subscriber.generation.outcome


async def test_a_crashed_task_has_left_when_its_block_is_done() -> None:
    async with open_hub() as hub:
        with pytest.raises(ValueError, match="a bug"), hub.join("key", ScriptedSource()) as reader:
            raise ValueError("a bug in the handler")

        assert cancelled("abandoned") == reader.generation.outcome


async def test_a_task_cancelled_at_any_step_leaves() -> None:
    async def handle_then_stream(hub: Hub, source: ScriptedSource) -> None:
        with ExitStack() as request:
            subscriber = request.enter_context(hub.join("key", source))
            await subscriber.generation.wait_opened()
            await trio.lowlevel.checkpoint()  # between the handler and the body
            async for _ in subscriber:
                await trio.lowlevel.checkpoint()  # the write

    async with open_hub() as hub:
        steps, reached = 0, True
        while reached:
            steps += 1
            source = ScriptedSource()
            source.arrive(b"a")
            scope = trio.CancelScope()
            cut = AtStep(steps, scope.cancel)
            with scope, cut:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(handle_then_stream, hub, source)
                    await wait_all_tasks_blocked()
                    cut.disarm()
                    scope.cancel()

            assert list(hub.running) == []
            await wait_all_tasks_blocked()
            assert not source.is_open
            reached = cut.was_reached

    assert steps > 5


async def test_a_stuck_write_does_not_delay_leaving(nursery: trio.Nursery) -> None:
    async def stream_to_a_stuck_socket(
        hub: Hub, task_status: trio.TaskStatus[tuple[trio.CancelScope, Subscriber]]
    ) -> None:
        with trio.CancelScope() as scope, hub.join("key", ScriptedSource()) as subscriber:
            task_status.started((scope, subscriber))
            await trio.sleep_forever()

    async with open_hub() as hub:
        scope, subscriber = await nursery.start(stream_to_a_stuck_socket, hub)
        scope.cancel()
        await wait_all_tasks_blocked()

        assert cancelled("abandoned") == subscriber.generation.outcome
