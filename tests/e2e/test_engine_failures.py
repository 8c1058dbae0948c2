"""An engine that dies or falls silent: told to all who read, and never taken for an end."""

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.commands import open_proxy
from tests.e2e.llama import open_llama
from tests.e2e.streams import (
    COMPLETION,
    COMPLETIONS,
    DONE,
    REPLAY,
    ask,
    error_of,
    next_event,
    read_events,
)
from tests.support.rawhttp import post_stream


@pytest.mark.parametrize(
    ("fate", "code", "reason"),
    [
        (signal.SIGTERM, "upstream_broken", "broken"),
        (signal.SIGKILL, "upstream_broken", "broken"),
        (signal.SIGSTOP, "upstream_timeout", "timeout"),
    ],
)
async def test_engine_that_goes_away_mid_stream_is_told_to_every_reader(
    models: Path, fate: signal.Signals, code: str, reason: str
) -> None:
    with (
        open_llama(models / "slow.gguf", slots=1) as engine,
        open_proxy(engine.url, "--inter-token-timeout", "1") as proxy,
    ):
        async with (
            post_stream(proxy.url, COMPLETIONS, COMPLETION, REPLAY) as one,
            post_stream(proxy.url, COMPLETIONS, COMPLETION, REPLAY) as other,
        ):
            readers = (one, other)
            for reader in readers:
                await next_event(reader)

            os.kill(engine.pid, fate)

            ends = [(await read_events(reader))[-2:] for reader in readers]
        generation = await proxy.generation(one.head.headers["x-generation-id"])
        await proxy.wait_at_rest()
        os.kill(engine.pid, signal.SIGKILL)  # a stopped process would not heed SIGTERM

    assert [(code, DONE)] * 2 == [(error_of(error.data), last.data) for error, last in ends]
    assert {"kind": "failed", "reason": reason} == generation["outcome"]


async def test_engine_that_dies_before_it_answers_is_a_502_to_every_reader(models: Path) -> None:
    with (
        open_llama(models / "slow.gguf", slots=1) as engine,
        open_proxy(engine.url) as proxy,
    ):
        async with (
            post_stream(engine.url, COMPLETIONS, COMPLETION),  # has the only slot
            ask(proxy.url, COMPLETION, headers=REPLAY) as one,
            ask(proxy.url, COMPLETION, headers=REPLAY) as other,
        ):
            await engine.wait_deferred(1)
            await proxy.wait_census({"subscribers": 2})

            os.kill(engine.pid, signal.SIGKILL)

            statuses = [(await client.response_head()).status for client in (one, other)]
            codes = [error_of(await client.body()) for client in (one, other)]
        await proxy.wait_at_rest()

    assert statuses == [502] * 2
    assert codes == ["upstream_broken"] * 2
