"""Who waits in vain is nudged, in time and not before; who does not is left alone."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from tests.support.source import ScriptedSource
from trioproxy.fanout import Subscriber, open_hub
from trioproxy.web.metronome import Metronome, open_metronome

INTERVAL = 15.0


async def wait_for_batch(metronome: Metronome, subscriber: Subscriber) -> tuple[float, int]:
    """When it has a batch, and of how many events."""
    metronome.expect(subscriber)
    try:
        batch = await anext(subscriber)
    finally:
        metronome.forget(subscriber)
    return trio.current_time(), len(batch.events)


async def test_each_is_nudged_when_it_has_waited_for_the_interval(
    autojump_clock: MockClock,
) -> None:
    source = ScriptedSource()
    times: list[tuple[float, int]] = []

    async def come(at: float) -> None:
        await trio.sleep(at)
        with hub.join("key", source) as subscriber:
            times.append(await wait_for_batch(metronome, subscriber))
            times.append(await wait_for_batch(metronome, subscriber))

    async with open_hub() as hub, open_metronome(INTERVAL) as metronome:
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            for at in (0.0, 4.0, 9.0):
                nursery.start_soon(come, at)

    expected = [(at + INTERVAL, 0) for at in (0, 4, 9, 15, 19, 24)]
    assert [(when - start, number) for when, number in times] == expected


async def test_news_come_without_a_nudge_and_the_next_wait_is_a_whole_one(
    autojump_clock: MockClock,
) -> None:
    source = ScriptedSource()
    async with open_hub() as hub, open_metronome(INTERVAL) as metronome:
        with hub.join("key", source) as subscriber:
            start = trio.current_time()
            async with trio.open_nursery() as nursery:

                async def tell() -> None:
                    await trio.sleep(INTERVAL - 1)
                    source.arrive(b"a")

                nursery.start_soon(tell)
                first = await wait_for_batch(metronome, subscriber)
            second = await wait_for_batch(metronome, subscriber)

    assert (first[0] - start, first[1]) == (INTERVAL - 1, 1)
    assert (second[0] - start, second[1]) == (2 * INTERVAL - 1, 0)


async def test_who_has_left_is_forgotten(autojump_clock: MockClock) -> None:
    source = ScriptedSource()
    async with open_hub() as hub, open_metronome(INTERVAL) as metronome:
        with hub.join("key", source) as stays:
            with hub.join("key", source) as leaves, trio.move_on_after(1):
                await wait_for_batch(metronome, leaves)
            start = trio.current_time()
            when, _ = await wait_for_batch(metronome, stays)

    assert when - start == INTERVAL


async def test_infinity_is_never(autojump_clock: MockClock) -> None:
    source = ScriptedSource()
    async with open_hub() as hub, open_metronome(float("inf")) as metronome:
        with hub.join("key", source) as subscriber, trio.move_on_after(10**6) as patience:
            await wait_for_batch(metronome, subscriber)

    assert patience.cancelled_caught
