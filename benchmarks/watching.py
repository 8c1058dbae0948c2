"""What it costs to be watched: CPU time for each delivery, with telemetry and without.

python -m benchmarks.watching [--subscribers 1000] [--events 200] [--rounds 9]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import trio
import trio.testing
from rich.table import Table

from benchmarks.options import at_least
from benchmarks.report import make_console, run_as_program
from trioproxy.fanout import Arrival, Event, Feed, Hub, Subscriber, WatchFactory, open_hub
from trioproxy.fanout.watch import watch_nothing
from trioproxy.telemetry import Telemetry
from trioproxy.wire import OPENAI_COMPLETIONS, Message, Tally

DESCRIPTION = """
CPU time of the core for each delivery of one event to one reader, without sockets: the readers lend
sinks that take everything. Once in a hub that nobody watches, and once with telemetry, in turns.
"""
TOKEN = b'{"choices":[{"index":0,"text":" river"}]}'
MICRO = 1e6


@dataclass
class Asked:
    """What a generation is started for."""

    tally: Tally
    accepted_at: float
    path: str = "/v1/completions"
    dialect = OPENAI_COMPLETIONS
    model: str | None = None
    trace_context: dict[str, str] = field(default_factory=dict[str, str])
    is_replay: bool = False


class Faucet:
    """A source that brings one event, each time it is turned on, and its own feed."""

    head = None

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._turned_on, self._turns = trio.open_memory_channel[None](1)

    def turn_on(self) -> None:
        self._turned_on.send_nowait(None)

    async def __aenter__(self) -> Feed:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._turned_on.close()
        self._turns.close()

    def __aiter__(self) -> Faucet:
        return self

    async def __anext__(self) -> Sequence[Arrival]:
        await self._turns.receive()
        self._tally.count(Message(None, TOKEN))
        return [Arrival(None, TOKEN)]


def render(generation_id: str, event: Event) -> bytes:
    return event.data


class Drain:
    """A sink that takes everything. ``writes`` are those of all."""

    writes = 0

    render = staticmethod(render)
    wrap = staticmethod(bytes)
    heartbeat = b""
    interval = 3600.0

    def write_nowait(self, data: bytes) -> int:
        Drain.writes += 1
        return len(data)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and tell; return the exit status. Exits with 2 for bad options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watching", description=DESCRIPTION)
    whole = at_least(int, 1)
    parser.add_argument("--subscribers", type=whole, default=1_000)
    parser.add_argument("--events", type=whole, default=200)
    parser.add_argument("--rounds", type=whole, default=9)
    options = parser.parse_args(arguments)
    watches: dict[str, Callable[[], WatchFactory]] = {
        "nobody watches": lambda: watch_nothing,
        "telemetry": lambda: Telemetry().watch,
    }
    costs: dict[str, list[float]] = {name: [] for name in watches}
    for _ in range(options.rounds):
        for name, make in watches.items():
            seconds = trio.run(measure, make(), options.subscribers, options.events)
            costs[name].append(seconds * MICRO)
    table = Table("", "CPU µs/delivery, median", "least", title=f"{options.subscribers:,} readers")
    for name, each in costs.items():
        table.add_row(name, f"{median(each):.3f}", f"{min(each):.3f}")
    plain, watched = (median(each) for each in costs.values())
    table.add_row("added", f"{watched - plain:.3f}")
    make_console().print(table)
    return 0


async def measure(watch: WatchFactory, readers: int, events: int) -> float:
    """Seconds of CPU time for each delivery."""
    asked = Asked(Tally(OPENAI_COMPLETIONS), trio.current_time())
    faucet = Faucet(asked.tally)
    async with open_hub(watch=watch) as hub, trio.open_nursery() as nursery:
        for _ in range(readers):
            nursery.start_soon(_read, hub, faucet, asked, Drain())
        await trio.testing.wait_all_tasks_blocked()
        faucet.turn_on()  # who was there before the call had begun reads one event by itself
        await trio.testing.wait_all_tasks_blocked()
        written = Drain.writes
        began = time.process_time()
        for _ in range(events):
            faucet.turn_on()
            written += readers
            while Drain.writes < written:  # noqa: ASYNC110 - an event would be part of the cost
                await trio.lowlevel.checkpoint()
        seconds = time.process_time() - began
        nursery.cancel_scope.cancel()
    return seconds / (events * readers)


async def _read(hub: Hub, faucet: Faucet, asked: Asked, drain: Drain) -> None:
    with hub.join("key", faucet, origin=asked) as subscriber:
        await _lend(subscriber, drain)


async def _lend(subscriber: Subscriber, drain: Drain) -> None:
    while True:
        if subscriber.is_current and subscriber.generation.has_begun:
            await subscriber.lend(drain)
        else:
            await anext(subscriber)


if __name__ == "__main__":
    run_as_program(main)
