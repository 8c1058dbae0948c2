"""Clients that leave before the first byte of their stream, and in the very moment in which the
handler is done and the body has not begun."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.serving.apps import Message
from tests.serving.proxies import PATH, STREAM, open_simulated
from tests.support.app import make_app
from tests.support.rawhttp import open_client, post_stream
from tests.support.source import ScriptedSource
from tests.support.stepping import AtStep
from trioproxy.config import Settings
from trioproxy.fanout import Hub, cancelled, open_hub
from trioproxy.simulator import EngineSettings, SimulatedEngine, open_engine
from trioproxy.testing import TaskCensus
from trioproxy.upstream import Roster, Upstream, open_roster
from trioproxy.web.app import ProxyApp

CLIENTS = 300
DESCRIPTORS = 2048
"""Each client needs four: two of its own connection, two of the call that is made for it."""

SILENT = EngineSettings(ttft=3600)
"""An engine that answers at once with a head, and then thinks for an hour."""

BODY = json.dumps(STREAM).encode()
SCOPE: Message = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "POST",
    "scheme": "http",
    "path": PATH,
    "raw_path": PATH.encode(),
    "query_string": b"",
    "root_path": "",
    "headers": [(b"host", b"localhost"), (b"content-length", b"%d" % len(BODY))],
    "client": ("127.0.0.1", 1),
    "server": ("127.0.0.1", 2),
    "extensions": {},
}


@pytest.fixture(autouse=True)
def enough_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def assert_nothing_is_left(hub: Hub, roster: Roster, engine: SimulatedEngine) -> None:
    with trio.fail_after(5):
        await engine.wait_until(lambda stats: stats.aborted == CLIENTS)
        await hub.wait_idle()
    assert (engine.stats.calls, engine.stats.active) == (CLIENTS, 0)
    assert [reader for ended in hub.retained for reader in ended.subscribers] == []
    assert {ended.outcome for ended in hub.retained} == {cancelled("abandoned")}
    assert roster.open_calls == 0


async def test_clients_that_close_as_soon_as_the_head_has_come_leave_nothing() -> None:
    async def leave_at_the_head() -> None:
        async with post_stream(proxy.binds[0], PATH, STREAM):
            pass  # the head is there

    async with open_simulated(SILENT) as (proxy, engine):
        with TaskCensus() as census:
            async with trio.open_nursery() as clients:
                for _ in range(CLIENTS):
                    clients.start_soon(leave_at_the_head)

            await assert_nothing_is_left(proxy.hub, proxy.roster, engine)
            await census.settled()


async def test_clients_that_close_as_soon_as_they_have_asked_leave_nothing() -> None:
    async def leave_after(ticks: int) -> None:
        async with few, open_client(proxy.binds[0]) as client:
            await client.request("POST", PATH, body=BODY)
            for _ in range(ticks):
                await trio.lowlevel.checkpoint()

    few = trio.CapacityLimiter(5)  # a crowd would leave before anybody is let in
    async with open_simulated(SILENT) as (proxy, engine):
        with TaskCensus() as census:
            async with trio.open_nursery() as clients:
                for number in range(CLIENTS):
                    clients.start_soon(leave_after, number % 60)

            await census.settled(within=5)

        assert list(proxy.hub.running) == []
        assert [reader for ended in proxy.hub.retained for reader in ended.subscribers] == []
        assert (engine.stats.active, engine.stats.aborted) == (0, engine.stats.calls)
        assert 0 < engine.stats.calls < CLIENTS, "all left in the same phase"
        assert proxy.roster.open_calls == 0


# -- the same without sockets: the cancellation comes in the very step -----------------------------


async def ask(app: ProxyApp, at_the_head: Callable[[], object]) -> None:
    """Send a request for a stream to the application, and take what it sends; ``at_the_head`` is
    called in the step in which that is the head."""
    to_come: list[Message] = [{"type": "http.request", "body": BODY, "more_body": False}]

    async def receive() -> Message:
        if not to_come:
            await trio.sleep_forever()
        return to_come.pop()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            at_the_head()
        await trio.lowlevel.checkpoint()

    await app(SCOPE, receive, send)  # pyright: ignore[reportArgumentType]


async def test_requests_that_are_cancelled_in_the_step_of_the_head_leave_nothing() -> None:
    async def leave_at_the_head() -> None:
        with trio.CancelScope() as request:
            await ask(app, request.cancel)
        assert request.cancelled_caught

    async with (
        open_engine(settings=SILENT) as engine,
        open_roster(Settings(), upstream_url=engine.url) as roster,
        open_hub() as hub,
    ):
        app = make_app(Settings(), hub, roster)
        await wait_all_tasks_blocked()
        with TaskCensus() as census:
            async with trio.open_nursery() as clients:
                for _ in range(CLIENTS):
                    clients.start_soon(leave_at_the_head)

            await assert_nothing_is_left(hub, roster, engine)
            await census.settled()


async def test_request_that_is_cancelled_at_any_step_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stream(*_: object) -> ScriptedSource:
        return source

    source = ScriptedSource()
    monkeypatch.setattr(Upstream, "stream", stream)
    async with (
        open_roster(Settings(), upstream_url="http://unused") as roster,
        open_hub() as hub,
    ):
        app = make_app(Settings(), hub, roster)
        await wait_all_tasks_blocked()
        steps, reached = 0, True
        while reached:
            steps += 1
            source = ScriptedSource()
            source.complete(b"a")
            with TaskCensus() as census:
                with trio.CancelScope() as request, AtStep(steps, request.cancel) as instant:
                    await ask(app, lambda: None)

                with trio.fail_after(1):
                    await hub.wait_idle()
                await census.settled()

            assert not source.is_open
            assert [reader for ended in hub.retained for reader in ended.subscribers] == []
            reached = instant.was_reached

    assert steps > 10
