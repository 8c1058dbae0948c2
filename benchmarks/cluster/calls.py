"""The calls as the engine saw them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from benchmarks.cluster.rig import fetch
from benchmarks.processes import Process

NANOSECONDS = 1e9
POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Call:
    """One call, in trio's time; ``ended_at`` is None while it goes on. No two have one
    ``number``."""

    number: int
    prompt: str
    outcome: str
    began_at: float
    ended_at: float | None


async def fetch_calls(engine: Process) -> list[Call]:
    """Those that the engine remembers, oldest first."""
    records = await trio.to_thread.run_sync(fetch, engine, "/calls")
    shift = trio.current_time() - time.time()
    return [
        Call(
            record["began_unix_ns"],
            record["prompt"],
            record["outcome"],
            record["began_unix_ns"] / NANOSECONDS + shift,
            None
            if record["ended_unix_ns"] is None
            else record["ended_unix_ns"] / NANOSECONDS + shift,
        )
        for record in records
    ]


async def wait_over(engine: Process, prompt: str, within: float) -> float:
    """Wait until no call goes on for this prompt; when the last one ended. Raises
    :exc:`RuntimeError`."""
    with trio.move_on_after(within):
        while True:
            calls = [call for call in await fetch_calls(engine) if call.prompt == prompt]
            if calls and all(call.ended_at is not None for call in calls):
                return last_end(calls)
            await trio.sleep(POLL_SECONDS)
    raise RuntimeError(f"a call goes on {within:g} s later")


def last_end(calls: Sequence[Call]) -> float:
    """When the last of them ended, which all have."""
    return max(call.ended_at for call in calls if call.ended_at is not None)
