"""`trioproxy serve` as a process: what SIGTERM and SIGINT do to it, and to what it is in the middle
of."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from tests.serving.proxies import BACKLOG, ENDLESS, PATH, STREAM, read_events
from tests.support.rawhttp import RawClient, open_client, post_stream
from tests.web.service import wait_until
from trioproxy.gateway import hash_key

DRAIN = 0.3
BEYOND_DRAIN = 2.0
PROMPTLY = 1.0

Deliver = Callable[[int, int], None]


@asynccontextmanager
async def serving(*flags: str) -> AsyncGenerator[tuple[trio.Process, str]]:
    """The command in a process group of its own, and where it listens; its engine is simulated."""
    command = [sys.executable, "-W", "error", "-m", "trioproxy", "serve"]
    process = await trio.lowlevel.open_process(
        [*command, "--bind", "127.0.0.1:0", "--log", "off", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    async with process.stdout, process.stderr:
        try:
            with trio.fail_after(10):
                line = (await process.stdout.receive_some()).decode()
            yield process, line.split()[3]
        finally:
            process.kill()
            await process.wait()


async def assert_ended_well(process: trio.Process) -> None:
    assert process.stderr is not None
    complaints = b"".join([chunk async for chunk in process.stderr])
    assert (process.returncode, complaints) == (0, b"")


async def assert_told(client: RawClient) -> None:
    """Read on, and see that the stream ends with a word on why."""
    *_, failure, done = await read_events(client)
    assert b'"shutting_down"' in failure.data
    assert done.data == b"[DONE]"
    assert client.ended_properly
    client.close()  # or the server would listen to it for a second more


@pytest.mark.parametrize("deliver", [os.kill, os.killpg], ids=["process", "group"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_ends_live_streams_in_good_order(
    number: signal.Signals, deliver: Deliver
) -> None:
    async with (
        serving("--drain", str(DRAIN)) as (process, url),
        post_stream(url, PATH, STREAM, ENDLESS) as one,
        post_stream(url, PATH, STREAM, ENDLESS) as other,
        open_client(url) as idle,
    ):
        deliver(process.pid, number)

        await assert_told(one)
        await assert_told(other)
        assert await idle.wait_closed() == "fin"
        with trio.fail_after(DRAIN + BEYOND_DRAIN):
            await process.wait()
        await assert_ended_well(process)


async def test_stuck_clients_do_not_put_off_the_end() -> None:
    body = b'{"prompt": "The river", "stream": true}'
    async with (
        serving("--drain", str(DRAIN)) as (process, url),
        open_client(url, rcvbuf=4096) as stuck,
        open_client(url, rcvbuf=4096) as also_stuck,
        post_stream(url, PATH, STREAM, ENDLESS) as reading,
    ):
        for client in (stuck, also_stuck):
            await client.request("POST", PATH, headers=BACKLOG, body=body)
            await client.response_head()
        process.send_signal(signal.SIGTERM)

        with trio.fail_after(DRAIN + BEYOND_DRAIN):
            await process.wait()

        await assert_ended_well(process)
        await assert_told(reading)
        for client in (stuck, also_stuck):
            await client.body()
            assert not client.ended_properly


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_second_signal_does_not_wait_for_the_drain(second: signal.Signals) -> None:
    async with (
        serving("--drain", "inf") as (process, url),
        post_stream(url, PATH, STREAM, ENDLESS) as endless,
        open_client(url) as idle,
    ):
        process.send_signal(signal.SIGTERM)
        assert await idle.wait_closed() == "fin"
        assert process.returncode is None

        process.send_signal(second)

        with trio.fail_after(PROMPTLY):
            await process.wait()
        await assert_ended_well(process)
        await endless.body()
        assert not endless.ended_properly


def tenant(name: str) -> str:
    return f"[[tenant]]\nname = '{name}'\nkeys = ['{hash_key(name.encode())}']\n"


async def test_hangup_reads_the_file_again_and_no_stream_ends(tmp_path: Path) -> None:
    async def wait_for(key: str, status: int) -> None:
        async def is_so() -> bool:
            answer = await http.get("/v1/models", headers={"x-api-key": key})
            return answer.status_code == status

        await wait_until(is_so)

    file = tmp_path / "proxy.toml"
    file.write_text(tenant("alice"))
    async with (
        serving("--config", str(file), "--drain", str(DRAIN)) as (process, url),
        post_stream(url, PATH, STREAM, ENDLESS | {"x-api-key": "alice"}) as stream,
        httpx.AsyncClient(base_url=url, trust_env=False) as http,
    ):
        await wait_for("bob", 401)

        file.write_text(tenant("bob"))
        process.send_signal(signal.SIGHUP)
        await wait_for("bob", 200)
        await wait_for("alice", 401)
        file.write_text(tenant("alice") + "nmae = 1")
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        with trio.fail_after(5):
            complaint = await process.stderr.receive_some()
        await wait_for("bob", 200)
        assert (await stream.next_event()) is not None

        process.terminate()
        await assert_told(stream)
        await process.wait()
        assert process.returncode == 0
    assert complaint.decode() == (
        f"the settings stay as they were: {file}: tenant[0]: object contains unknown field `nmae`\n"
    )
