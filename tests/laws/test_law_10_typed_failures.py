"""Law 10: every failure has a name and is told once, and a stream that stops without saying that it
is complete has failed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.reading import read_to_end
from tests.support.source import ScriptedSource
from trioproxy.fanout import Arrival, FanoutError, SourceFailed, failed, open_hub


class Refused(SourceFailed):
    """A refusal that carries what the API's clients need to know."""

    def __init__(self, status: int) -> None:
        super().__init__("refused", f"the upstream answered {status}")
        self.status = status


def refuse(status: int) -> Callable[[], Awaitable[None]]:
    async def entering() -> None:
        await trio.lowlevel.checkpoint()
        raise Refused(status)

    return entering


async def test_a_refusal_reaches_every_client_that_waits() -> None:
    source = ScriptedSource(entering=refuse(429))
    async with open_hub() as hub:
        with hub.join("key", source) as one, hub.join("key", source) as other:
            await one.generation.wait_opened()
            readings = [await read_to_end(one), await read_to_end(other)]

            assert [reading.told for reading in readings] == [[], []]
            assert [reading.end for reading in readings] == [failed("refused")] * 2
            outcome = one.generation.outcome
            assert outcome is not None
            assert isinstance(outcome.error, Refused)
            assert outcome.error.status == 429
            assert one.generation.head is None


async def test_a_refusal_wakes_who_waits_for_the_head() -> None:
    source = ScriptedSource(entering=refuse(503))
    async with open_hub() as hub, trio.open_nursery() as clients:
        with hub.join("key", source) as subscriber:
            clients.start_soon(subscriber.generation.wait_opened)
            clients.start_soon(subscriber.generation.wait_opened)
            await wait_all_tasks_blocked()

            assert clients.child_tasks == frozenset()


async def test_a_stream_that_breaks_off_fails_with_its_reason_after_what_had_come() -> None:
    source = ScriptedSource()
    source.arrive(b"a", b"b")
    source.fail(SourceFailed("timeout", "no token for 120 s"))
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            reading = await read_to_end(subscriber)

    assert (reading.data, reading.end) == ([b"a", b"b"], failed("timeout"))


@pytest.mark.parametrize("messages", [[], [b"a"], [b"a", b"b"]])
async def test_a_stream_that_stops_short_of_its_terminal_event_is_truncated(
    messages: list[bytes],
) -> None:
    source = ScriptedSource()
    source.arrive(*messages)
    source.end()
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            reading = await read_to_end(subscriber)

    assert (reading.data, reading.end) == (messages, failed("truncated"))


async def test_an_error_that_the_upstream_told_itself_is_an_event_and_marked_as_told(
    autojump_clock: MockClock,
) -> None:
    source = ScriptedSource()
    source.arrive(b"a", Arrival(b"error", b"overloaded", failed("upstream", told=True)))
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            reading = await read_to_end(subscriber)
            outcome = subscriber.generation.outcome

            assert (reading.data, reading.end) == ([b"a", b"overloaded"], failed("upstream"))
            assert outcome is not None
            assert outcome.told


async def test_a_source_that_breaks_while_it_is_left_does_not_change_what_was_told() -> None:
    async def break_off() -> None:
        raise SourceFailed("reset", "the connection was reset")

    source = ScriptedSource(leaving=break_off)
    source.fail(SourceFailed("timeout", "no token for 120 s"))
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            reading = await read_to_end(subscriber)
            await wait_all_tasks_blocked()

            assert reading.end == failed("timeout")
            assert subscriber.generation.outcome == failed("timeout")


def test_every_refusal_of_the_core_is_of_one_family() -> None:
    import trioproxy.fanout as fanout

    errors = {
        name
        for name in fanout.__all__
        if isinstance(member := getattr(fanout, name), type) and issubclass(member, Exception)
    }

    assert len(errors) > 5
    assert errors == {name for name in errors if issubclass(getattr(fanout, name), FanoutError)}
