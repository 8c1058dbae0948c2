"""Leaving a stream, stopping a generation, closing the client: what becomes of connections."""

from __future__ import annotations

import gc
import ssl

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.client.played import (
    DONE,
    GENERATION,
    NAMED,
    PlayedProxy,
    breaks_off,
    describes,
    event,
    play,
    refuses,
    says,
    says_nothing,
    token,
    tokens,
)
from tests.client.scenes import BODY, PATH, client_endpoints
from trioproxy.client import GenerationStream, open_client
from trioproxy.testing.network import VirtualNetwork
from trioproxy.testing.upstream import UpstreamCall

DELETE = f"DELETE /v1/generations/{GENERATION}"
ASKED = f"POST {PATH}"


async def says_one(call: UpstreamCall) -> None:
    """One event, and nothing more."""
    await call.start(200, ("content-type", "text/event-stream"), NAMED)
    await call.write(token(1))


def assert_hung_up(proxy: PlayedProxy) -> None:
    assert client_endpoints(proxy.network) == []


async def test_leaving_closes_the_connection_without_waiting_even_if_cancelled(
    autojump_clock: MockClock,
) -> None:
    async with play(says_one) as (proxy, client):
        with trio.CancelScope() as scope:
            async with client.stream(PATH, BODY) as stream:
                await anext(stream)
                scope.cancel()
        assert_hung_up(proxy)


async def test_the_end_of_the_client_closes_what_was_left_open(autojump_clock: MockClock) -> None:
    async with play(says_one) as (proxy, client):
        async for _ in client.stream(PATH, BODY):
            break
        assert len(client_endpoints(proxy.network)) == 1

    assert_hung_up(proxy)
    with pytest.raises(trio.ClosedResourceError):
        await anext(client.stream(PATH, BODY))


async def test_the_connection_is_closed_with_the_last_event(autojump_clock: MockClock) -> None:
    async with play(says(tokens(1, 2), event(3, DONE))) as (proxy, client):
        stream = client.stream(PATH, BODY)
        await anext(stream)
        assert_hung_up(proxy)


async def test_nothing_is_sent_before_the_first_event_is_asked_for(
    autojump_clock: MockClock,
) -> None:
    async with play() as (proxy, client):
        async with client.stream(PATH, BODY) as stream:
            await wait_all_tasks_blocked()
        await stream.cancel()

    assert proxy.calls == []


async def iterate(stream: GenerationStream, ended: list[str]) -> None:
    try:
        async for _ in stream:
            pass
        ended.append("at its end")
    except trio.ClosedResourceError:
        ended.append("closed")


@pytest.mark.parametrize("waits_for", ["the head", "an event", "the next attempt"])
@pytest.mark.parametrize("way", ["aclose", "cancel"])
async def test_another_task_can_end_it(way: str, waits_for: str, autojump_clock: MockClock) -> None:
    first = {
        "the head": [says_nothing],
        "an event": [says_one],
        "the next attempt": [refuses(503, ("retry-after", "1000"))],
    }[waits_for]
    then = [] if way == "aclose" else [describes(1)]
    if way == "cancel" and waits_for != "an event":
        then = [says_one, *then]  # to find it
    ended: list[str] = []
    async with play(*first, *then) as (proxy, client):
        stream = client.stream(PATH, BODY)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(iterate, stream, ended)
            await wait_all_tasks_blocked()
            if way == "aclose":
                await stream.aclose()
            else:
                await stream.cancel()
        assert_hung_up(proxy)

    assert trio.current_time() == 0
    assert ended == ["closed" if way == "aclose" else "at its end"]
    assert proxy.targets.count(DELETE) == (way == "cancel")


async def test_stopping_stops_once(autojump_clock: MockClock) -> None:
    async with play(says_one, breaks_off(), describes(1, "cancelled")) as (proxy, client):
        stream = client.stream(PATH, BODY, headers={"x-api-key": "mine"})
        await anext(stream)
        await stream.cancel()
        await stream.cancel()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    assert proxy.targets == [ASKED, DELETE, DELETE]
    assert proxy.header(2, "x-api-key") == "mine"


async def test_what_has_ended_need_not_be_stopped(autojump_clock: MockClock) -> None:
    async with play(says(event(1, DONE))) as (proxy, client):
        stream = client.stream(PATH, BODY)
        await anext(stream)
        await stream.cancel()

    assert proxy.targets == [ASKED]


@pytest.mark.parametrize("status", [404, 410])
async def test_what_is_gone_need_not_be_stopped(status: int, autojump_clock: MockClock) -> None:
    async with play(says_one, refuses(status)) as (_, client):
        stream = client.stream(PATH, BODY)
        await anext(stream)
        await stream.cancel()


async def test_what_may_have_been_started_is_found_by_its_key_and_stopped(
    autojump_clock: MockClock,
) -> None:
    async with play(says_nothing, says_one, describes(1)) as (proxy, client):
        stream = client.stream(PATH, BODY)
        with trio.move_on_after(1):
            await anext(stream)
        assert_hung_up(proxy)
        await stream.cancel()

    assert proxy.targets == [ASKED, ASKED, DELETE]
    assert proxy.header(0, "x-generation-key") == proxy.header(1, "x-generation-key")


@pytest.mark.parametrize("mode", ["private", "replay"])
async def test_what_cannot_be_found_is_not_stopped(mode: str, autojump_clock: MockClock) -> None:
    then = [] if mode == "private" else [refuses(400)]
    async with play(says_nothing, *then) as (proxy, client):
        stream = client.stream(PATH, BODY, mode=mode)
        with trio.move_on_after(1):
            await anext(stream)
        await stream.cancel()

    assert DELETE not in proxy.targets


async def test_the_end_of_the_client_ends_who_still_reads(autojump_clock: MockClock) -> None:
    ended: list[str] = []
    async with trio.open_nursery() as nursery:
        async with play(says_one) as (proxy, client):
            nursery.start_soon(iterate, client.stream(PATH, BODY), ended)
            await wait_all_tasks_blocked()
        assert_hung_up(proxy)

    assert ended == ["closed"]


async def test_each_step_is_a_checkpoint_at_which_nothing_is_lost(
    autojump_clock: MockClock,
) -> None:
    async with play(says(tokens(1, 2), event(3, DONE))) as (_, client):
        stream = client.stream(PATH, BODY)
        await anext(stream)
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(stream)
        assert scope.cancelled_caught
        assert [event.seq async for event in stream] == [2, 3]


async def test_one_task_at_a_time_iterates(autojump_clock: MockClock) -> None:
    async with play(says_one) as (_, client):
        stream = client.stream(PATH, BODY)
        await anext(stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(iterate, stream, [])
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await anext(stream)
            await stream.aclose()


async def test_a_cancelled_handshake_leaves_no_socket(autojump_clock: MockClock) -> None:
    async def never_shakes_hands(stream: trio.SocketStream) -> None:
        async with stream:
            await trio.sleep_forever()

    gc.disable()
    try:
        with VirtualNetwork() as network:
            async with trio.open_nursery() as nursery:
                await nursery.start(trio.serve_tcp, never_shakes_hands, 9010)
                context = ssl.create_default_context()
                async with open_client("https://proxy:9010", ssl_context=context) as client:
                    with trio.move_on_after(1):
                        await anext(client.stream(PATH, BODY))
                    assert client_endpoints(network) == []
                nursery.cancel_scope.cancel()
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("path", "body", "linger"),
    [
        ("/v1/models", {}, 1.0),
        (PATH, {"stream": False}, 1.0),
        (PATH, {}, -1.0),
        (PATH, {}, float("nan")),
    ],
)
async def test_what_makes_no_stream_is_refused(
    path: str, body: dict[str, object], linger: float, autojump_clock: MockClock
) -> None:
    async with play() as (_, client):
        with pytest.raises(ValueError, match=r"generation|stream|linger"):
            client.stream(path, body, linger=linger)


@pytest.mark.parametrize("url", ["proxy:9010", "ftp://proxy", "http://", "http://proxy:port", ""])
async def test_what_is_no_url_is_refused(url: str, autojump_clock: MockClock) -> None:
    with pytest.raises(ValueError, match="URL"):
        async with open_client(url):
            pytest.fail("it was opened")
