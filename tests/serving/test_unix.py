"""Clients that come over a Unix socket: what they can do, and whose its file is."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest
import trio
from hypercorn.config import Config
from trio_websocket import wrap_client_stream

from tests.serving.proxies import ENDLESS, PATH, STREAM, open_simulated, read_events
from tests.support.rawhttp import open_client, post_stream
from tests.web.sockets import SUBPROTOCOL, Socket
from trioproxy.config import Settings
from trioproxy.net import DirectStream
from trioproxy.serving import open_proxy
from trioproxy.serving.listener import KernelListener
from trioproxy.serving.listening import listen
from trioproxy.testing import TaskCensus


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "proxy.sock"


def mode_of(path: Path) -> int | None:
    """The permissions of the file; None where there is none."""
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else None


def listen_at(path: Path) -> socket.socket:
    """Whatever file is there, another takes its place."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


def config_of(path: Path) -> Config:
    config = Config()
    config.bind = [f"unix:{path}"]
    return config


async def assert_lives(url: str) -> None:
    async with open_client(url) as client:
        await client.request("GET", "/healthz")
        assert (await client.response_head()).status == 200


async def test_streams_flow_and_the_engine_stops_when_their_reader_leaves(path: Path) -> None:
    async with open_simulated(bind=f"unix:{path}", upstream_keep_alive=0.0) as (proxy, engine):
        [url] = proxy.binds
        with TaskCensus() as census:
            async with post_stream(url, PATH, STREAM, {"x-sim-tokens": "30"}) as client:
                events = await read_events(client)
            async with post_stream(url, PATH, STREAM, ENDLESS) as client:
                for _ in range(30):
                    assert await client.next_event() is not None
                [generation] = proxy.hub.running
                is_lent = bool(generation.pump.sinks)
            await engine.wait_until(lambda stats: stats.aborted == 1)
            await census.settled()

    assert url == f"http://unix:{path}"
    assert (len(events), events[-1].data) == (32, b"[DONE]")
    assert is_lent


async def test_websockets_are_spoken(path: Path) -> None:
    async with open_simulated(bind=f"unix:{path}") as _, trio.open_nursery() as tasks:
        stream = await trio.open_unix_socket(path)
        connection = await wrap_client_stream(
            tasks, stream, "proxy", "/v1/ws", subprotocols=[SUBPROTOCOL]
        )
        client = Socket(connection, stream)
        await client.say(type="generate", path=PATH, body={"prompt": "x", "max_tokens": 4})
        *_, end = await client.hear_to_end()
        await connection.aclose()
        tasks.cancel_scope.cancel()

    assert end["outcome"] == {"kind": "completed", "reason": None}


async def test_several_addresses_are_listened_on(path: Path) -> None:
    async with open_simulated(bind=f"127.0.0.1:0,unix:{path},[::1]:0") as (proxy, _):
        for url in (v4 := proxy.binds[0], f"http://unix:{path}"):
            await assert_lives(url)
        v6 = await trio.open_tcp_stream("::1", int(proxy.binds[2].rpartition(":")[2]))
        await v6.aclose()

    assert v4.startswith("http://127.0.0.1:")
    assert proxy.binds[2].startswith("http://[::1]:")


async def test_its_group_may_connect_and_nobody_else(path: Path) -> None:
    async with open_simulated(bind=f"unix:{path}"):
        assert mode_of(path) == 0o660


async def test_the_file_goes_with_the_proxy(path: Path) -> None:
    async with open_simulated(bind=f"unix:{path}") as (proxy, _):
        assert mode_of(path) is not None
        await proxy.shutdown()

        assert mode_of(path) is None


async def test_the_file_of_a_process_that_died_is_replaced(path: Path) -> None:
    listen_at(path).close()
    assert mode_of(path) is not None

    async with open_simulated(bind=f"unix:{path}"):
        await assert_lives(f"http://unix:{path}")


@pytest.mark.parametrize("is_socket", [True, False])
async def test_a_file_that_is_in_use_is_left_alone(path: Path, is_socket: bool) -> None:
    settings = Settings(bind=f"127.0.0.1:0,unix:{path}")
    with listen_at(path) if is_socket else path.open("x"):
        with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="in use"), flatten_subgroups=True):
            async with open_proxy(settings, upstream_url="http://127.0.0.1:1"):
                raise AssertionError("it listens")

        assert mode_of(path) is not None


async def test_the_file_of_a_successor_is_left_alone(path: Path) -> None:
    async with open_simulated(bind=f"unix:{path}"):
        successor = listen_at(path)

    with successor:
        assert mode_of(path) is not None


@pytest.mark.parametrize("found_before", [False, True])
async def test_nobody_gets_in_behind_the_last_who_is_accepted(
    path: Path, monkeypatch: pytest.MonkeyPatch, found_before: bool
) -> None:
    take = KernelListener._take_waiting  # pyright: ignore[reportPrivateUsage]
    came: list[bool] = []

    def take_and_come(self: KernelListener) -> list[DirectStream]:
        waiting = take(self)
        with socket.socket(socket.AF_UNIX) as late:
            came.append(late.connect_ex(str(also if found_before else path)) == 0)
        return waiting

    monkeypatch.setattr(KernelListener, "_take_waiting", take_and_come)
    [listener] = listen(config_of(path), write_timeout=30)
    (also := path.with_name("also")).hardlink_to(path)
    with socket.socket(socket.AF_UNIX) as early:
        early.connect(str(path))
        await listener.aclose()
        for stream in listener.waiting:
            stream.close()

    assert (len(listener.waiting), came) == (1, [False])


async def test_a_file_that_cannot_be_removed_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder := tmp_path / "run").mkdir()
    async with open_simulated(bind=f"unix:{folder / 'proxy.sock'},127.0.0.1:0") as (proxy, _):
        folder.rename(tmp_path / "moved")
        folder.touch()
        await proxy.shutdown()

    [record] = caplog.records
    assert record.message.startswith("the file of a socket that is closed stays: ")
