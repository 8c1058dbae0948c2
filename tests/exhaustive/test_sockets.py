"""A blow at every step of a WebSocket over which several generations are read, and a fault at every
I/O: whoever is struck, nothing is held and nobody hears a thing twice or out of turn."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.exhaustive import proxy_scenes_engine as engine
from tests.exhaustive.proxy_scenes_blows import (
    Blow,
    a_connection_fails,
    connections_are_killed,
    first_client_closes,
    first_client_half_closes,
    first_client_resets,
    generations_are_cancelled,
    hub_is_closed,
    proxy_is_cancelled,
    upstream_resets,
)
from tests.exhaustive.proxy_scenes_clients import COMPLETIONS
from tests.exhaustive.proxy_scenes_laws import nothing_crashes
from tests.exhaustive.proxy_scenes_stage import Scene, open_scene
from tests.exhaustive.tally import tally
from tests.exhaustive.test_proxy import (
    BASE,
    LONG,
    aborted_connection,
    check_nothing_is_held,
    check_shutdown_takes_no_time,
)
from tests.support.websocket import CLOSE, TEXT, Peer, frame
from trioproxy.config import Settings
from trioproxy.testing import Trial, cancel_at_every_checkpoint, fail_at_every_io
from trioproxy.testing.network import VirtualNetwork

GENERATE = {"type": "generate", "path": COMPLETIONS, "body": {"prompt": "The river"}}
ENDS = ("end", "evicted")

Heard = list[dict[str, Any]]
Plot = Callable[[Peer, Heard], Awaitable[None]]


async def listen(peer: Peer, heard: Heard, *, until: int) -> None:
    """Take what comes, until so many ends have come or the proxy closes."""
    while sum(message["type"] in ENDS for message in heard) < until:
        opcode, payload = await peer.next_frame()
        if opcode == CLOSE:
            return
        if opcode == TEXT:
            heard.append(json.loads(payload))


def say(peer: Peer, **message: Any) -> Awaitable[None]:
    return peer.send(frame(TEXT, json.dumps(message).encode()))


async def two_are_read_to_their_ends(peer: Peer, heard: Heard) -> None:
    await say(peer, **GENERATE, ref=1)
    await say(peer, **GENERATE | {"body": {"prompt": "The sea"}}, ref=2)
    await listen(peer, heard, until=2)


async def one_is_left_and_one_is_stopped(peer: Peer, heard: Heard) -> None:
    for ref in (1, 2):
        await say(peer, **GENERATE | {"body": {"prompt": f"{ref}"}}, ref=ref)
    while len(ids := [message["generation"] for message in heard if "ref" in message]) < 2:
        opcode, payload = await peer.next_frame()
        if opcode == CLOSE:
            return
        heard.append(json.loads(payload))
    await say(peer, type="unsubscribe", generation=ids[0])
    await say(peer, type="cancel", generation=ids[1])
    await listen(peer, heard, until=1)


async def play(plot: Plot, scene: Scene, heard: Heard) -> None:
    scene.engine.script = engine.tell_in_three_pieces
    with scene.client() as client, suppress(OSError, trio.BrokenResourceError, AssertionError):
        peer = await client.upgrade("/v1/ws")
        if peer is not None:
            with suppress(trio.ClosedResourceError):
                await plot(peer, heard)


async def perform(plot: Plot, blow: Blow, trial: Trial) -> None:
    network = VirtualNetwork(on_io=trial.io)
    heard: Heard = []
    with nothing_crashes():
        async with open_scene(Settings(**BASE), network) as scene:
            with trial.armed(partial(blow, scene)):
                await play(plot, scene, heard)
            await wait_all_tasks_blocked()
            await trio.sleep(LONG)
            check_nothing_is_held(scene)
            check_what_was_heard(heard)
            if not trial.struck:
                assert [message["type"] for message in heard if message["type"] in ENDS]
            await check_shutdown_takes_no_time(scene)
    assert list(network.open_endpoints) == []


def check_what_was_heard(heard: Heard) -> None:
    """Law 5, for each generation by itself."""
    seqs: defaultdict[str, list[int]] = defaultdict(list)
    ended: set[str] = set()
    for message in heard:
        generation_id = message.get("generation")
        if message["type"] == "event":
            assert generation_id not in ended
            seqs[message["generation"]].append(message["seq"])
        elif message["type"] in ENDS:
            assert generation_id not in ended
            ended.add(message["generation"])
    for each in seqs.values():
        assert each == list(range(1, len(each) + 1))


PLOTS = [two_are_read_to_their_ends, one_is_left_and_one_is_stopped]
CASES: list[tuple[Plot, Blow]] = [
    (two_are_read_to_their_ends, first_client_resets),
    (two_are_read_to_their_ends, first_client_half_closes),
    (two_are_read_to_their_ends, generations_are_cancelled),
    (two_are_read_to_their_ends, hub_is_closed),
    (two_are_read_to_their_ends, upstream_resets),
    (one_is_left_and_one_is_stopped, first_client_closes),
    (one_is_left_and_one_is_stopped, proxy_is_cancelled),
    (one_is_left_and_one_is_stopped, connections_are_killed),
]


@pytest.mark.parametrize(("plot", "blow"), CASES, ids=lambda function: function.__name__)
def test_all_laws_hold_whatever_falls_and_wherever(plot: Plot, blow: Blow) -> None:
    tally.checkpoints += cancel_at_every_checkpoint(partial(perform, plot, blow))


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.__name__)
def test_all_laws_hold_whatever_io_fails(plot: Plot) -> None:
    tally.faults += fail_at_every_io(
        partial(perform, plot, a_connection_fails), error=aborted_connection
    )
