"""curl, as the README has it."""

from __future__ import annotations

import json
import subprocess
from functools import partial

import trio

from tests.clients.reading import assert_dense, parse, read_uncut
from tests.support.rawhttp import WITHIN
from tests.support.sse import SseEvent, SseReader
from tests.web.service import COMPLETION, COMPLETIONS, open_simulated, text_of
from trioproxy.simulator import generate_text

TOKENS = 60
TEXT = "".join(generate_text("The river", TOKENS))
OPTIONS = ("-N", "--silent", "--show-error", "--fail", "--noproxy", "*")
ASK = ("-H", "Content-Type: application/json", "-d", json.dumps(COMPLETION))
PACED = ("-H", f"x-sim-tokens: {TOKENS}", "-H", "x-sim-rate: 200", "-H", "X-Linger: 30")


async def read(curl: str, *arguments: str) -> list[SseEvent]:
    """Run curl to its end, and return the events that it prints."""
    with trio.fail_after(WITHIN):
        ended = await trio.run_process([curl, *OPTIONS, *arguments], capture_stdout=True)
    return parse(ended.stdout)


async def read_some(curl: str, *arguments: str, events: int) -> list[SseEvent]:
    """Run curl until it has printed so many events, and kill it."""
    reader, read = SseReader(), list[SseEvent]()
    async with trio.open_nursery() as nursery:
        run = partial(
            trio.run_process, [curl, *OPTIONS, *arguments], stdout=subprocess.PIPE, check=False
        )
        process: trio.Process = await nursery.start(run)
        assert process.stdout is not None
        with trio.fail_after(WITHIN):
            while len(read) < events:
                data = await process.stdout.receive_some()
                assert data, f"curl has ended after {read}"
                read += reader.feed(bytes(data))
        process.kill()
    return read


async def test_curl_prints_each_event_as_it_comes(curl: str) -> None:
    async with open_simulated() as service:
        url = service.url + COMPLETIONS
        silent = ("-H", "x-sim-fail: stall", "-H", f"x-sim-tokens: {TOKENS}")
        events = await read_some(curl, *silent, *ASK, url, events=TOKENS // 2)
        await service.wait_aborted(1)

    assert text_of(events) == "".join(generate_text("The river", TOKENS // 2))


async def test_curl_that_was_killed_reads_on_after_the_last_event_id(curl: str) -> None:
    async with open_simulated() as service:
        call = (*PACED, *ASK, service.url + COMPLETIONS)
        before = await read_some(curl, *call, events=10)
        resume = ("-H", f"Last-Event-ID: {before[-1].id}")
        after = await read(curl, *resume, *call)
        generation_id = (before[0].id or "").split(":")[0]
        by_id = await read(curl, *resume, f"{service.url}/v1/generations/{generation_id}/events")
        uncut = await read_uncut(service, generation_id)

    assert before + after == uncut
    assert after == by_id
    assert text_of(uncut) == TEXT
    assert_dense([event.id for event in uncut], generation_id)
    assert service.engine.stats.calls == 1
