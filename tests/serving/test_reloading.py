"""Other settings for a proxy that serves: what changes at once, and what goes on as it was."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.rawhttp import RawClient, open_client
from tests.web.service import (
    COMPLETION,
    COMPLETIONS,
    CREATION,
    HALF_OF_EIGHT_THEN_SILENCE,
    Service,
    next_event,
    open_scripted,
    open_simulated,
    read_events,
)
from tests.web.sockets import open_socket
from tests.web.test_door import ALICE, BOB, GATEWAY, ROOT
from trioproxy.config import (
    ConfigError,
    Gateway,
    RouteEntry,
    Settings,
    TargetEntry,
    TenantEntry,
    UpstreamEntry,
)
from trioproxy.gateway import hash_key
from trioproxy.serving.notifying import Notifier
from trioproxy.serving.reloading import reload_on
from trioproxy.simulator import open_engine


def changed(service: Service, **settings: Any) -> Settings:
    """The settings of the service, but for these."""
    before = service.proxy.settings
    kept = {name: getattr(before, name) for name in before.__struct_fields__}
    return Settings(**(kept | settings))


async def ask(service: Service, headers: dict[str, str] = ALICE, **body: Any) -> int:
    answer = await service.http.post(COMPLETIONS, json=COMPLETION | body, headers=headers)
    return answer.status_code


async def test_a_tenant_that_is_new_gets_in_and_one_that_is_gone_does_not() -> None:
    carol = TenantEntry(name="carol", keys=(hash_key(b"tp-carol"),))
    async with open_simulated(gateway=GATEWAY) as service:
        before = [await ask(service, ALICE), await ask(service, {"x-api-key": "tp-carol"})]
        service.proxy.configure(changed(service, gateway=Gateway(tenants=(carol,))))
        # Over the same connection: httpx keeps it.
        after = [await ask(service, ALICE), await ask(service, {"x-api-key": "tp-carol"})]

    assert (before, after) == ([200, 401], [401, 200])


async def test_a_stream_that_runs_goes_on_though_all_has_changed() -> None:
    other = TenantEntry(name="carol", keys=(hash_key(b"tp-carol"),))
    async with open_simulated(gateway=GATEWAY) as service, open_engine() as engine:
        before = {"x-sim-tokens": "8", "x-sim-rate": "20"}
        async with service.ask(headers=ALICE | before) as client:
            await client.response_head()
            await next_event(client)
            elsewhere = UpstreamEntry(name="new", url=engine.url)
            gateway = Gateway(tenants=(other,), upstreams=(elsewhere,))
            later = service.proxy.configure(
                changed(service, gateway=gateway, upstream=None, max_transcript=100, max_event=50)
            )
            body = await client.body()

        assert later == []
        assert body.count(b"data: [DONE]") == 1
        assert await ask(service, {"x-api-key": "tp-carol"}) == 502  # its events are larger
        assert service.engine.stats.completed == 1


async def test_calls_go_where_the_new_routes_lead() -> None:
    async with open_simulated() as service, open_engine() as engine:
        route = RouteEntry(model="new", to=(TargetEntry(upstream="new"),))
        upstream = UpstreamEntry(name="new", url=engine.url)
        gateway = Gateway(upstreams=(upstream,), routes=(route,))
        service.proxy.configure(changed(service, upstream=None, gateway=gateway))
        told = [await ask(service, {}, model=model) for model in ("new", "old")]

        assert told == [200, 404]
        assert (service.engine.stats.calls, engine.stats.calls) == (0, 1)


async def test_limits_hold_at_once_and_counts_go_on() -> None:
    async with open_simulated(requests_per_minute=10.0) as service:
        statuses = [await ask(service) for _ in range(3)]
        service.proxy.configure(changed(service, requests_per_minute=4.0, max_body=300))
        statuses += [await ask(service), await ask(service)]
        long = await service.http.post(COMPLETIONS, content=b"{" + b" " * 400 + b"}")

    assert statuses == [200, 200, 200, 200, 429]
    assert long.status_code == 413


async def test_what_is_retained_is_bounded_anew() -> None:
    async with open_simulated() as service:
        await ask(service)
        assert len(service.proxy.hub.retained) == 1
        service.proxy.configure(changed(service, max_hub=10, max_transcript=10))
        assert len(service.proxy.hub.retained) == 0
        service.proxy.configure(changed(service, max_hub=10_000_000))
        await ask(service)
        assert len(service.proxy.hub.retained) == 1
        service.proxy.configure(changed(service, retention=0.0))
        assert len(service.proxy.hub.retained) == 0


async def test_heads_and_connections_are_bounded_anew() -> None:
    request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-long: %b\r\n\r\n" % (b"x" * 2_000)
    statuses: list[int] = []
    async with open_simulated() as service:
        for settings in ({}, {"max_head": 1_000}, {"max_connections": 1.0}):
            service.proxy.configure(changed(service, **settings))
            await service.http.aclose()
            await service.proxy.server.wait_closed()
            async with open_client(service.url) as first, open_client(service.url) as client:
                await first.send(b"GET")
                await client.send(request)
                statuses.append((await client.response_head()).status)

    assert statuses == [200, 431, 503]


async def test_what_holds_after_a_restart_only_is_told() -> None:
    async with open_simulated() as service:
        later = service.proxy.configure(changed(service, heartbeat=7.0, linger=3.0, log="json"))

    assert later == ["heartbeat", "log"]


async def test_nobody_is_let_in_by_a_change() -> None:
    async with open_simulated(gateway=GATEWAY) as service:
        service.proxy.server.listeners[0].address = "192.0.2.1:80"
        with pytest.raises(ConfigError, match=r"192\.0\.2\.1:80 can be reached by others"):
            service.proxy.configure(changed(service, gateway=Gateway()))
        with pytest.raises(ConfigError, match="expected an engine"):
            service.proxy.configure(changed(service, upstream=None))

        assert await ask(service, BOB) == 200
        assert await ask(service, {}) == 401


async def test_an_engine_that_cannot_be_called_changes_nothing() -> None:
    async with open_simulated(gateway=GATEWAY) as service:
        before = service.proxy.roster.members
        odd = Gateway(upstreams=(UpstreamEntry(name="odd", url="http://\u2603.example:0x"),))
        with pytest.raises(ConfigError, match="cannot be called"):
            service.proxy.configure(changed(service, upstream=None, gateway=odd, max_hub=10))

        assert service.proxy.roster.members == before
        assert await ask(service) == 200


ALICES, BOBS, ROOTS = GATEWAY.tenants


@pytest.mark.parametrize(
    ("key", "tenants"),
    [
        (ALICE, (BOBS, ROOTS)),
        (ALICE, (BOBS, TenantEntry(name="carol", keys=ALICES.keys))),
        (ROOT, (ALICES, TenantEntry(name="root", keys=ROOTS.keys))),
        (ALICE, ()),
    ],
    ids=["revoked", "of another", "no admin's", "not needed"],
)
async def test_a_key_that_is_not_what_it_was_is_of_no_use_over_a_socket_that_is_open(
    key: dict[str, str], tenants: tuple[TenantEntry, ...]
) -> None:
    async with open_simulated(gateway=GATEWAY) as service:
        made = await service.create(CREATION, headers=ALICE | HALF_OF_EIGHT_THEN_SILENCE)
        async with open_socket(service, headers=key) as socket:
            service.proxy.configure(changed(service, gateway=Gateway(tenants=tenants)))
            told = [
                await socket.ask(type="generate", path=COMPLETIONS, body={"prompt": "a"}),
                await socket.ask(type="subscribe", generation=made["id"]),
                await socket.ask(type="cancel", generation=made["id"]),
            ]

        assert [each["error"]["code"] for each in told] == ["invalid_api_key"] * 3
        assert [generation.id for generation in service.proxy.hub.running] == [made["id"]]


async def test_what_a_key_reads_over_a_socket_is_read_to_its_end_though_it_is_revoked() -> None:
    slowly = {"x-sim-tokens": "8", "x-sim-rate": "20"}
    async with (
        open_simulated(gateway=GATEWAY) as service,
        open_socket(service, headers=ALICE | slowly) as socket,
    ):
        await socket.ask(type="generate", path=COMPLETIONS, body={"prompt": "a"})
        service.proxy.configure(changed(service, gateway=Gateway(tenants=(BOBS,))))
        *_, end = await socket.hear_to_end()

    assert end["outcome"] == {"kind": "completed", "reason": None}


BODY = json.dumps(COMPLETION).encode()


@pytest.mark.parametrize("path", [COMPLETIONS, "/v1/embeddings"])
async def test_a_key_that_let_a_request_in_goes_to_no_engine_though_nobody_needs_one_any_more(
    path: str,
) -> None:
    async with open_scripted(gateway=GATEWAY) as service, open_client(service.url) as client:
        await client.request(
            "POST", path, headers=ALICE | {"content-length": str(len(BODY))}, body=BODY[:1]
        )
        await wait_all_tasks_blocked(cushion=0.1)  # until it is in, and its body awaited
        service.proxy.configure(changed(service, gateway=Gateway()))
        await client.send(BODY[1:])
        call = await service.upstream.next_call()
        await call.respond(500, body=b"{}")
        await client.response_head()

    assert not any(b"tp-alice" in value for _, value in call.headers)


async def test_what_is_asked_for_over_a_socket_that_is_open_is_had_by_the_new_settings() -> None:
    async def generate(prompt: str) -> dict[str, Any]:
        told = await socket.ask(type="generate", path=COMPLETIONS, body={"prompt": prompt})
        while told["type"] == "event":  # of what runs
            told = await socket.hear()
        return told

    async with (
        open_simulated() as service,
        open_socket(service, headers=HALF_OF_EIGHT_THEN_SILENCE) as socket,
    ):
        before = [await generate(prompt) for prompt in ("the same", "the same", "a longer one")]
        service.proxy.configure(changed(service, coalesce="identical", max_prompt=8.0))
        twin, longer = [await generate(prompt) for prompt in ("the same", "a longer one")]

    assert [each["cache"] for each in before] == ["miss"] * 3
    assert "is read here already" in twin["error"]["message"]
    assert longer["error"]["code"] == "prompt_too_large"


async def test_who_looks_on_comes_back_and_sees_what_its_key_lets_it_see_then() -> None:
    every = tuple(msgspec.structs.replace(each, admin=True) for each in GATEWAY.tenants)
    everybody = Gateway(tenants=every)

    async def sees_bob() -> bool:
        """Whether alice sees on the board what bob has called."""
        async with open_board(service) as board:
            await ask(service, BOB)
            with trio.move_on_after(1.5):
                while (await next_event(board)).name != "generation":
                    pass
                return True
        return False

    async with open_simulated(gateway=everybody) as service:
        before = await sees_bob()
        async with open_board(service) as board:
            service.proxy.configure(changed(service, gateway=GATEWAY))
            told = [event.data for event in await read_events(board)]
        after = await sees_bob()

    assert (before, after) == (True, False)
    assert any(b'"reloaded"' in data for data in told)


@asynccontextmanager
async def open_board(service: Service) -> AsyncIterator[RawClient]:
    async with open_client(service.url) as client:
        await client.request("GET", "/v1/generations/events", headers=ALICE)
        await client.response_head()
        yield client


async def test_nothing_is_left_of_what_was_before() -> None:
    async with open_simulated(upstream_keep_alive=0.0) as service:
        await ask(service)
        service.proxy.configure(changed(service, max_event=1_000))
        await ask(service)
        before = trio.lowlevel.current_statistics().tasks_living
        for number in range(5):
            service.proxy.configure(changed(service, max_event=2_000 + number))
            await ask(service)
        await wait_all_tasks_blocked()

        assert trio.lowlevel.current_statistics().tasks_living <= before


class Requests:
    """Each of them asks for other settings; the test goes on when that was done."""

    def __init__(self, number: int) -> None:
        self._left = number

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        await trio.lowlevel.checkpoint()
        if not self._left:
            raise StopAsyncIteration
        self._left -= 1
        return 1


async def test_settings_that_are_wrong_change_nothing_and_the_log_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    configured: list[Settings] = []
    answers: list[Callable[[], Settings]] = [load_wrong, load_crashing, Settings, Settings]

    def configure(settings: Settings) -> list[str]:
        configured.append(settings)
        return ["bind"]

    caplog.set_level(logging.INFO, "trioproxy")
    notifier = Notifier(None)
    await reload_on(Requests(4), lambda: answers.pop(0)(), configure, notifier)
    notifier.close()

    assert configured == [Settings(), Settings()]
    assert [record.getMessage() for record in caplog.records] == [
        "the settings stay as they were: proxy.toml: linger: expected less",
        "the settings stay as they were",
        *2 * ["the settings were reloaded", "after a restart only: bind"],
    ]


def load_crashing() -> Settings:
    raise ZeroDivisionError


def load_wrong() -> Settings:
    raise ConfigError("proxy.toml: linger: expected less")
