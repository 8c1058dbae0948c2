"""Many readers that leave at the same moment, or at the worst one."""

import time
from contextlib import AsyncExitStack
from typing import NamedTuple

import trio

from tests.e2e.commands import Proxy, Simulator
from tests.e2e.streams import COMPLETION, REPLAY, ask, post
from tests.support.rawhttp import RawClient, open_client

READERS = 200
ROUNDS = 10
UNTIL_ABORTED = 0.25  # seconds
UNTIL_AT_REST = 1.0  # seconds


class Round(NamedTuple):
    """What the readers of a round cost, and what their leaving took.

    `aborted` is when the engine saw its caller leave, `at_rest` when the proxy held nothing more;
    in seconds after the last close, less those in which the proxy was ready to run while other
    processes had the cores of a busy machine.
    """

    calls: int
    aborted: float
    at_rest: float


async def open_readers(stack: AsyncExitStack, url: str) -> list[RawClient]:
    """The readers of one generation, each with an event on its way to it."""
    clients = [await stack.enter_async_context(open_client(url)) for _ in range(READERS)]
    for client in clients:
        await post(client, COMPLETION, headers=REPLAY)
    for client in clients:
        await client.response_head()
        await client.chunk()
    return clients


async def leave_together(proxy: Proxy, simulator: Simulator) -> Round:
    """Open the readers of one generation, and close them all."""
    calls = (await simulator.stats())["calls"]
    async with AsyncExitStack() as stack:
        clients = await open_readers(stack, proxy.url)
        await proxy.wait_census({"subscribers": READERS, "upstream_calls": 1})

        without_core = proxy.seconds_without_a_core()
        for client in clients:
            client.close()
        left = time.time_ns()

    def since(now: int) -> float:
        return (now - left) / 1e9 - (proxy.seconds_without_a_core() - without_core)

    await simulator.wait_active(0, within=10)
    stats = await simulator.stats()
    aborted = since(stats["last_abort_unix_ns"])
    await proxy.wait_at_rest(within=10)
    return Round(stats["calls"] - calls, aborted, since(time.time_ns()))


async def test_when_all_readers_leave_at_once_the_one_call_ends_at_once(
    simulated_proxy: Proxy, simulator: Simulator
) -> None:
    rounds = [await leave_together(simulated_proxy, simulator) for _ in range(ROUNDS)]

    table = "\n".join(
        f"round {number:2}: {calls} call, aborted after {aborted * 1e3:4.0f} ms, "
        f"at rest after {at_rest * 1e3:4.0f} ms"
        for number, (calls, aborted, at_rest) in enumerate(rounds, 1)
    )
    print(f"\n{READERS} readers leave together\n{table}")
    assert all(round_.calls == 1 for round_ in rounds), table
    assert all(round_.aborted <= UNTIL_ABORTED for round_ in rounds), table
    assert all(round_.at_rest <= UNTIL_AT_REST for round_ in rounds), table


async def test_leaving_between_the_head_and_the_first_event_leaves_nothing(
    simulated_proxy: Proxy, simulator: Simulator
) -> None:
    async def leave_after_head() -> None:
        async with ask(simulated_proxy.url, COMPLETION, headers={"x-sim-ttft": "5"}) as client:
            await client.response_head(within=30)
            client.close()

    calls = (await simulator.stats())["calls"]
    async with trio.open_nursery() as nursery:
        for _ in range(300):
            nursery.start_soon(leave_after_head)

    await simulated_proxy.wait_at_rest(within=1.0)
    await simulator.wait_active(0)
    assert (await simulator.stats())["calls"] - calls == 300
