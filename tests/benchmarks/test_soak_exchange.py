"""One HTTP exchange of the soak, with servers that misbehave."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from benchmarks.soak import exchange
from benchmarks.soak.exchange import DEPARTURES, Exchange, open_exchange
from benchmarks.soak.reading import Violation

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-generation-id: gen_1\r\n\r\n"
HALF = HEAD + b"5\r\nhello\r\n"
WHOLE = HALF + b"0\r\n\r\n"


@asynccontextmanager
async def open_server(serve: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncGenerator[int]:
    """Serve each client so; yield the port."""
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def answered(answer: bytes, *, then_close: bool) -> AsyncGenerator[Exchange]:
    """A request to a server that gives this answer, and then closes or stays silent."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)
        if not then_close:
            await trio.sleep_forever()

    async with open_server(serve) as port, open_exchange(("127.0.0.1", port)) as asking:
        await asking.send("POST", "/", {}, b"{}")
        yield asking


async def test_an_answer_is_read_to_its_end() -> None:
    async with answered(WHOLE, then_close=True) as asking:
        status = await asking.read_head()
        body = await asking.read_all()

    assert (status, body, asking.header("x-generation-id")) == (200, b"hello", "gen_1")
    assert asking.header("x-cache") == ""


@pytest.mark.parametrize("answer", [b"", HEAD[:30], HEAD, HALF, WHOLE[:-2], b"nonsense\r\n\r\n"])
async def test_an_answer_that_breaks_off_is_a_violation(answer: bytes) -> None:
    async with answered(answer, then_close=True) as asking:
        with pytest.raises(Violation):
            await _read_answer(asking)


async def test_silence_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "SILENCE_SECONDS", 0.05)
    async with answered(HALF, then_close=False) as asking:
        with pytest.raises(Violation, match="silence"):
            await _read_answer(asking)


async def test_a_connection_that_is_refused_is_a_violation() -> None:
    async with open_server(trio.aclose_forcefully) as port:
        pass

    with pytest.raises(Violation, match="no connection"):
        async with open_exchange(("127.0.0.1", port)):
            pass


async def test_a_server_that_keeps_a_half_closed_connection_open_is_a_violation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange, "CLOSE_SECONDS", 0.05)
    async with answered(HALF, then_close=False) as asking:
        with pytest.raises(Violation, match="still open"):
            await asking.half_close()


@pytest.mark.parametrize(
    ("leave", "seen"), list(zip(DEPARTURES, ("end", "reset", "end"), strict=True))
)
async def test_a_departure_is_what_the_server_sees(
    leave: Callable[[Exchange], Awaitable[None]], seen: str
) -> None:
    saw: list[str] = []
    over = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        try:
            while await stream.receive_some():
                pass
            saw.append("end")
        except trio.BrokenResourceError:
            saw.append("reset")
        over.set()

    async with open_server(serve) as port:
        async with open_exchange(("127.0.0.1", port)) as asking:
            await asking.send("POST", "/", {}, b"{}")
            await leave(asking)
        with trio.fail_after(5):
            await over.wait()

    assert saw == [seen]


async def _read_answer(asking: Exchange) -> None:
    await asking.read_head()
    await asking.read_all()
