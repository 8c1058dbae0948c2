"""A fault at every I/O of the client's connections, and a cancellation at every step."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.client.scenes import (
    BODY,
    PATH,
    PROXY,
    SENT,
    SETTINGS,
    Faults,
    assert_whole,
    client_endpoints,
    tell_slowly,
)
from tests.exhaustive.proxy_scenes_stage import Scene, open_scene
from tests.exhaustive.tally import tally
from trioproxy.client import Event, GenerationStream, open_client
from trioproxy.testing import Trial, cancel_at_every_checkpoint, fail_at_every_io
from trioproxy.testing.network import VirtualNetwork

LONG = 60.0
"""Seconds after which every linger is over."""


async def read_through_one_fault(trial: Trial) -> list[Event]:
    faults = Faults(trial.io)
    network = VirtualNetwork(on_io=faults)
    async with open_scene(SETTINGS, network) as scene, open_client(PROXY) as client:
        scene.engine.script = tell_slowly
        with trial.armed(lambda: None), faults:
            async with client.stream(PATH, BODY) as stream:
                events = [event async for event in stream]
        assert scene.engine.upstream.calls == 1
        await assert_nothing_is_held(scene)
    return events


def test_nothing_is_lost_or_doubled_whichever_io_fails() -> None:
    points = fail_at_every_io(read_through_one_fault, assert_whole)

    tally.faults += points
    assert points >= 15


@pytest.mark.parametrize("every", range(12, 16))
def test_nothing_is_lost_or_doubled_however_often_io_fails(every: int) -> None:
    ios = 0

    def strike() -> None:
        nonlocal ios
        ios += 1
        if ios % every == 0:
            raise ConnectionResetError(104, "Connection reset by peer")

    async def main() -> list[Event]:
        faults = Faults(strike)
        network = VirtualNetwork(on_io=faults)
        async with open_scene(SETTINGS, network) as scene, open_client(PROXY) as client:
            scene.engine.script = tell_slowly
            with faults:
                events = [event async for event in client.stream(PATH, BODY)]
            assert scene.engine.upstream.calls == 1
        return events

    events = trio.run(main, clock=MockClock(autojump_threshold=0))

    assert_whole(events)
    assert ios >= every


async def read_until_cancelled(trial: Trial) -> None:
    network = VirtualNetwork()
    async with open_scene(SETTINGS, network) as scene:
        scene.engine.script = tell_slowly
        with trial.target():
            async with open_client(PROXY) as client, client.stream(PATH, BODY) as stream:
                assert_whole([event async for event in stream])
        assert client_endpoints(network) == []
        await assert_nothing_is_held(scene)


def test_nothing_is_left_wherever_it_is_cancelled() -> None:
    points = cancel_at_every_checkpoint(read_until_cancelled)

    tally.checkpoints += points
    assert points > 50


async def read_into(events: list[Event], stream: GenerationStream) -> None:
    # One by one, so that what came before a cancellation is there after it.
    async for event in stream:
        events.append(event)  # noqa: PERF401


async def read_on_after_a_cancellation(trial: Trial) -> list[Event]:
    network = VirtualNetwork()
    events: list[Event] = []
    async with open_scene(SETTINGS, network) as scene, open_client(PROXY) as client:
        scene.engine.script = tell_slowly
        stream = client.stream(PATH, BODY)
        with trial.target() as scope:
            await read_into(events, stream)
        if scope.cancelled_caught:
            assert client_endpoints(network) == []
        await read_into(events, stream)
        assert stream.seq == len(SENT)
        assert scene.engine.upstream.calls == 1
        await assert_nothing_is_held(scene)
    return events


def test_a_cancelled_stream_goes_on_where_it_was() -> None:
    tally.checkpoints += cancel_at_every_checkpoint(read_on_after_a_cancellation, assert_whole)


async def leave_after_a_break(trial: Trial) -> None:
    network = VirtualNetwork()
    async with open_scene(SETTINGS, network) as scene:
        scene.engine.script = tell_slowly
        with trial.target():
            async with open_client(PROXY) as client:
                async for _ in client.stream(PATH, BODY):
                    break
                await trio.lowlevel.checkpoint()
        assert client_endpoints(network) == []
        await assert_nothing_is_held(scene)


def test_a_stream_that_was_broken_out_of_is_closed_with_its_client() -> None:
    tally.checkpoints += cancel_at_every_checkpoint(leave_after_a_break)


async def stop_in_the_middle(trial: Trial) -> None:
    network = VirtualNetwork()
    async with open_scene(SETTINGS, network) as scene, open_client(PROXY) as client:
        scene.engine.script = tell_slowly
        async with client.stream(PATH, BODY) as stream:
            with trial.target():
                await anext(stream)
                await stream.cancel()
            await stream.cancel()  # which is allowed in any case, and makes sure
            assert list(scene.proxy.hub.running) == []
        assert client_endpoints(network) == []


def test_cancelling_again_stops_what_a_cancelled_cancel_left_running() -> None:
    tally.checkpoints += cancel_at_every_checkpoint(stop_in_the_middle)


async def assert_nothing_is_held(scene: Scene) -> None:
    """Once the linger is over."""
    await trio.sleep(LONG)
    assert list(scene.proxy.hub.running) == []
    assert scene.proxy.server.connections == set()
    assert list(scene.network.open_endpoints) == []
