"""The first thing that a newcomer does, as the README prints it."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.e2e.commands import open_command
from tests.e2e.streams import DONE
from tests.support.rawhttp import WITHIN, open_client
from tests.support.sse import SseReader

README = Path(__file__).parents[2].joinpath("README.md").read_text()
PRINTED_URL = "http://localhost:9010"
TOKENS = 20
SCHEDULE = (TOKENS - 1) / 50
"""Seconds from the first token to the last, at the simulated engine's 50 tokens a second."""


def curl_command(url: str) -> list[str]:
    """The README's command, for a proxy that listens at `url`."""
    line = re.search(rf"^curl .*{PRINTED_URL}/v1/completions.*$", README, re.MULTILINE)
    assert line is not None
    return shlex.split(line[0].replace(PRINTED_URL, url))


async def read_arrivals(
    receive: Callable[[], Awaitable[bytes | bytearray | None]],
) -> list[tuple[bytes, float]]:
    """The data of every event, and when it came (trio time)."""
    reader = SseReader()
    arrivals: list[tuple[bytes, float]] = []
    with trio.fail_after(WITHIN):
        while piece := await receive():
            now = trio.current_time()
            arrivals += [(event.data, now) for event in reader.feed(bytes(piece))]
    reader.finish()
    return arrivals


def assert_tokens_came_one_by_one(arrivals: list[tuple[bytes, float]]) -> None:
    *tokens, finish, done = arrivals
    texts = [json.loads(data)["choices"][0]["text"] for data, _ in tokens]
    times = [time for _, time in tokens]
    assert (len(texts), all(texts)) == (TOKENS, True)
    assert json.loads(finish[0])["choices"][0]["finish_reason"] == "length"
    assert done[0] == DONE
    assert times[-1] - times[0] > SCHEDULE / 2, times
    assert len(set(times)) > TOKENS / 2, times


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_of_the_readme_prints_tokens_as_they_come() -> None:
    with open_command("serve", "--bind", "127.0.0.1:0") as proxy:
        async with trio.open_nursery() as nursery:
            curl = partial(
                trio.run_process,
                curl_command(proxy.url),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            process: trio.Process = await nursery.start(curl)
            assert process.stdout is not None
            arrivals = await read_arrivals(process.stdout.receive_some)

    assert_tokens_came_one_by_one(arrivals)


async def test_request_of_the_readme_streams_though_it_does_not_say_so() -> None:
    with open_command("serve", "--bind", "127.0.0.1:0") as proxy:
        command = curl_command(proxy.url)
        name, value = command[command.index("-H") + 1].split(": ")
        body = command[command.index("-d") + 1].encode()
        async with open_client(proxy.url) as client:
            await client.request("POST", "/v1/completions", headers={name: value}, body=body)
            head = await client.response_head()
            arrivals = await read_arrivals(client.chunk)

    assert head.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert_tokens_came_one_by_one(arrivals)
    assert client.ended_properly
