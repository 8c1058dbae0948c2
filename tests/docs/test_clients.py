"""The examples of the chapter on clients print what the engine says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clients.relay import open_relay
from tests.docs.examples import examples_of, run
from tests.e2e.commands import Proxy, Simulator
from tests.support.sse import SseEvent, SseReader
from tests.web.service import text_of
from trioproxy.simulator import generate_text

EXAMPLES = examples_of("clients.md")
TOKENS = 20
TEXT = "".join(generate_text("Hello", TOKENS))
CUTS = 2

PRINTING = ["openai", "anthropic", "ollama", "trio"]
LINE_BY_LINE = ["eventsource", "fetch"]
OTHERS = ["curl", "curl: sharing", "curl: generations", "openai: background"]


def parse(stream: str) -> list[SseEvent]:
    return SseReader().feed(stream.encode())


def text_of_lines(output: str) -> str:
    """What was printed with one `console.log` for each token."""
    return output.replace("\n", "")


def test_every_example_of_the_chapter_is_run() -> None:
    assert sorted(EXAMPLES) == sorted(PRINTING + LINE_BY_LINE + OTHERS)


@pytest.mark.parametrize("name", PRINTING)
async def test_an_example_prints_the_text(name: str, proxy: Proxy, tmp_path: Path) -> None:
    assert await run(EXAMPLES[name], proxy.url, tmp_path) == TEXT


@pytest.mark.parametrize("name", LINE_BY_LINE)
async def test_an_example_prints_the_text_token_by_token(
    name: str, proxy: Proxy, tmp_path: Path
) -> None:
    assert text_of_lines(await run(EXAMPLES[name], proxy.url, tmp_path)) == TEXT


async def test_the_example_with_fetch_reads_on_where_its_connection_broke(
    proxy: Proxy, engine: Simulator, tmp_path: Path
) -> None:
    calls = (await engine.stats())["calls"]

    async with open_relay(proxy.url, cuts=CUTS, longest_run=5) as relay:
        output = await run(EXAMPLES["fetch"], relay.url, tmp_path)

    assert relay.cuts_left == 0
    assert text_of_lines(output) == TEXT
    assert (await engine.stats())["calls"] == calls + 1


async def test_curl_prints_the_events(proxy: Proxy, tmp_path: Path) -> None:
    events = parse(await run(EXAMPLES["curl"], proxy.url, tmp_path))

    assert text_of(events) == TEXT
    assert all(event.id is not None for event in events)


async def test_two_that_name_the_same_key_are_one_call(
    proxy: Proxy, engine: Simulator, tmp_path: Path
) -> None:
    calls = (await engine.stats())["calls"]

    await run(EXAMPLES["curl: sharing"], proxy.url, tmp_path)

    one, other = ((tmp_path / f"{name}.txt").read_text() for name in ("one", "other"))
    assert text_of(parse(one)) == TEXT
    assert one == other
    assert (await engine.stats())["calls"] == calls + 1


async def test_a_generation_is_started_read_resumed_and_stopped(
    proxy: Proxy, tmp_path: Path
) -> None:
    streams, _, stopped = (
        await run(EXAMPLES["curl: generations"], proxy.url, tmp_path)
    ).rpartition("\n\n")
    events = parse(f"{streams}\n\n")

    last = int(str(events[-1].id).rpartition(":")[2])
    seqs = [int(str(event.id).rpartition(":")[2]) for event in events]
    assert seqs == [*range(1, last + 1), *range(6, last + 1)]
    assert text_of(events[:last]) == TEXT
    assert json.loads(stopped)["state"] == "ended"


async def test_a_response_in_the_background_is_polled_and_read_on(
    proxy: Proxy, tmp_path: Path
) -> None:
    text, numbers, _ = (await run(EXAMPLES["openai: background"], proxy.url, tmp_path)).split("\n")

    assert text == TEXT
    read = json.loads(numbers)
    assert read == list(range(10, read[-1] + 1))
    assert len(read) > TOKENS / 2
