"""A connection between requests: it is used again, it waits for its turn, and it is closed when
nothing comes."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.serving.apps import ANSWERS, CHUNK, TLS, Answer, App, Exchange, open_app
from tests.support.rawhttp import RawClient, open_client
from trioproxy.testing import TaskCensus

KEEP_ALIVE = 0.2
ON_TIME = 1.0
"""How much later than announced a connection may be closed."""

CLOSED_AFTER_REFUSAL = 2.0
"""The server listens for a second to what a client still sends after an early answer."""

BRIEF = b"GET /brief HTTP/1.1\r\nHost: server\r\n\r\n"


def watched(answer: Answer) -> Answer:
    """The answer, cancelled when the disconnect is told, as a framework that watches for it does
    it: the telling can come while the last write is under way."""

    async def watch(exchange: Exchange, scope: trio.CancelScope) -> None:
        while (await exchange.receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def answer_watched(exchange: Exchange) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, exchange, nursery.cancel_scope)
            await answer(exchange)
            nursery.cancel_scope.cancel()

    return answer_watched


def dawdling(may_finish: trio.Event, headers: dict[str, str] | None = None) -> Answer:
    """One chunk, and an end that waits for the event."""

    async def dawdle(exchange: Exchange) -> None:
        await exchange.start(headers=headers)
        await exchange.write(CHUNK)
        await may_finish.wait()
        await exchange.finish()

    return dawdle


async def wait_closed_on_time(client: RawClient) -> None:
    started = trio.current_time()
    assert await client.wait_closed(within=KEEP_ALIVE + ON_TIME) == "fin"
    assert trio.current_time() - started > KEEP_ALIVE / 2


@pytest.mark.parametrize("path", ["/brief", "/watched-brief", "/empty", "/watched-empty"])
async def test_idle_connection_is_closed_on_time_after_an_answer(path: str) -> None:
    empty = partial(Exchange.respond, status=204)
    answers = {"/brief": ANSWERS["/brief"], "/empty": empty}
    watching = {f"/watched-{path[1:]}": watched(answer) for path, answer in answers.items()}
    async with open_app(App({**answers, **watching}), keep_alive_timeout=KEEP_ALIVE) as server:
        with TaskCensus() as census:
            async with open_client(server.binds[0]) as client:
                await client.request("GET", path)
                await client.response_head()
                await client.body()
                assert client.ended_properly

                await wait_closed_on_time(client)
            await census.settled()


async def test_connection_without_a_request_is_closed_on_time(app: App) -> None:
    async with open_app(app, keep_alive_timeout=KEEP_ALIVE) as server:
        with TaskCensus() as census:
            async with open_client(server.binds[0]) as client:
                await wait_closed_on_time(client)
            await census.settled()


async def test_head_that_comes_byte_by_byte_is_not_waited_for(app: App) -> None:
    async def dribble() -> None:
        while True:
            try:
                await client.send(b"x")
            except trio.BrokenResourceError:
                return
            await trio.sleep(KEEP_ALIVE / 10)

    async with (
        open_app(app, keep_alive_timeout=KEEP_ALIVE) as server,
        open_client(server.binds[0]) as client,
        trio.open_nursery() as dribbling,
    ):
        await client.send(b"GET /brief HTTP/1.1\r\nX-Slow: ")
        dribbling.start_soon(dribble)

        await client.wait_closed(within=KEEP_ALIVE + ON_TIME)

        with trio.fail_after(ON_TIME):
            await server.wait_closed()


async def test_silent_stream_is_not_taken_for_an_idle_connection(app: App) -> None:
    async with (
        open_app(app, keep_alive_timeout=KEEP_ALIVE) as server,
        open_client(server.binds[0]) as client,
    ):
        await client.request("GET", "/quiet")
        await client.response_head()
        assert await client.chunk() == CHUNK

        with pytest.raises(trio.TooSlowError):
            await client.chunk(within=2 * KEEP_ALIVE)
        assert not app.cancelled.is_set()


@pytest.mark.parametrize("over_tls", [False, True])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", "/echo", b"a body"), ("GET", "/brief", b""), ("GET", "/refuse", b"")],
)
async def test_requests_follow_each_other_on_one_connection(
    app: App, tls: TLS, method: str, path: str, body: bytes, over_tls: bool
) -> None:
    async with (
        open_app(app, tls=tls if over_tls else None) as server,
        open_client(server.binds[0], ssl_context=tls.client if over_tls else None) as client,
    ):
        answers: set[bytes] = set()
        for _ in range(50):
            await client.request(method, path, body=body)
            await client.response_head()
            answers.add(await client.body())
            assert client.ended_properly

        assert len(server.connections) == 1
    assert [f"{method} {path}"] * 50 == app.requests
    assert len(answers) == 1


@pytest.mark.parametrize("length", [{"content-length": str(len(CHUNK))}, {}])
async def test_request_sent_before_the_application_is_through_is_answered(
    length: dict[str, str],
) -> None:
    may_finish = trio.Event()
    app = App({**ANSWERS, "/dawdle": dawdling(may_finish, length)})
    async with open_app(app) as server, open_client(server.binds[0]) as client:
        await client.request("GET", "/dawdle")
        head = await client.response_head()
        assert await client.chunk() == CHUNK

        await client.send(BRIEF)
        await wait_all_tasks_blocked()
        may_finish.set()
        await client.body()
        await client.response_head()

        assert await client.body() == 3 * CHUNK
        assert client.ended_properly
    assert "connection" not in head.headers
    assert app.requests == ["GET /dawdle", "GET /brief"]


async def test_pipelined_request_closes_the_connection_after_the_response() -> None:
    may_answer = trio.Event()

    async def think(exchange: Exchange) -> None:
        await may_answer.wait()
        await exchange.start()
        await exchange.write(b"first")
        await exchange.finish()

    app = App({**ANSWERS, "/think": think})
    async with open_app(app) as server:
        with TaskCensus() as census:
            async with open_client(server.binds[0]) as client:
                await client.send(b"GET /think HTTP/1.1\r\nHost: server\r\n\r\n" + BRIEF)
                await wait_all_tasks_blocked()
                may_answer.set()

                head = await client.response_head()

                assert (head.status, head.headers["connection"]) == (200, "close")
                assert await client.body() == b"first"
                assert client.ended_properly
                assert await client.wait_closed() == "fin"
            await census.settled()

    assert app.requests == ["GET /think"]


async def test_more_than_a_head_sent_ahead_closes_the_connection_after_the_response() -> None:
    may_finish = trio.Event()
    app = App({**ANSWERS, "/dawdle": dawdling(may_finish)})
    async with (
        open_app(app, h11_max_incomplete_size=1024) as server,
        open_client(server.binds[0]) as client,
    ):
        await client.request("GET", "/dawdle")
        await client.response_head()
        await client.send(BRIEF * 100)
        await wait_all_tasks_blocked()
        may_finish.set()

        assert await client.body() == CHUNK
        assert await client.wait_closed() == "fin"
    assert app.requests == ["GET /dawdle"]


async def test_empty_lines_between_requests_are_passed_over(app: App) -> None:
    async with open_app(app) as server, open_client(server.binds[0]) as client:
        for stray in (b"\r\n", b"\n", b"\r\n\r\n"):
            await client.send(stray)
            await wait_all_tasks_blocked()
            await client.request("GET", "/brief")
            head = await client.response_head()
            assert (head.status, await client.body()) == (200, 3 * CHUNK)

    assert app.requests == ["GET /brief"] * 3


async def test_empty_line_sent_ahead_does_not_disturb_the_next_request(app: App) -> None:
    may_finish = trio.Event()
    app = App({**ANSWERS, "/dawdle": dawdling(may_finish)})
    async with open_app(app) as server, open_client(server.binds[0]) as client:
        await client.request("GET", "/dawdle")
        await client.response_head()
        await client.send(b"\r\n")
        await wait_all_tasks_blocked()
        may_finish.set()
        await client.body()
        await client.request("GET", "/brief")
        head = await client.response_head()

        assert (head.status, await client.body()) == (200, 3 * CHUNK)


# -- early answers ---------------------------------------------------------------------------------

LARGE = bytes(1024 * 1024)


async def refuse_when_nothing_more_fits(exchange: Exchange) -> None:
    """A 401 when everything between the client and the application is full of the body."""
    await wait_all_tasks_blocked()
    await exchange.respond(401, b"who are you?")


@pytest.mark.parametrize("answer", [ANSWERS["/refuse"], refuse_when_nothing_more_fits])
async def test_early_answer_to_a_large_post_can_be_read_and_leaves_nothing(
    answer: Answer,
) -> None:
    async with open_app(App({"/": answer})) as server:
        with TaskCensus() as census:
            async with open_client(server.binds[0]) as client:
                await client.request("POST", "/", body=LARGE)
                head = await client.response_head()

                assert (head.status, await client.body()) == (401, b"who are you?")
                assert client.ended_properly
                assert head.headers["connection"] == "close"
            await census.settled()


async def test_early_answer_closes_the_connection_of_a_client_that_never_sends_the_rest(
    app: App,
) -> None:
    async with open_app(app) as server:
        with TaskCensus() as census:
            async with open_client(server.binds[0]) as client:
                await client.request(
                    "POST", "/refuse", headers={"content-length": "1000"}, body=b"a"
                )
                assert (await client.response_head()).status == 401
                await client.body()

                assert await client.wait_closed() == "fin"
                with trio.fail_after(CLOSED_AFTER_REFUSAL):
                    await server.wait_closed()
            await census.settled()
