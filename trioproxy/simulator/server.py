"""Opening an engine: a listening socket, and a nursery that owns a task per connection."""

import errno
import logging
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from trioproxy.simulator.apis import error_body
from trioproxy.simulator.connection import Connection
from trioproxy.simulator.engine import EngineSettings, SimulatedEngine
from trioproxy.simulator.refusal import Refusal
from trioproxy.simulator.routes import answer
from trioproxy.simulator.ticker import Ticker

_logger = logging.getLogger(__name__)

_DEFAULTS = EngineSettings()
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_EXHAUSTED_PAUSE = 0.1  # seconds


@asynccontextmanager
async def open_engine(
    bind: str = "127.0.0.1:0", settings: EngineSettings = _DEFAULTS
) -> AsyncGenerator[SimulatedEngine]:
    """Run an engine for the length of the block.

    It listens when the block is entered; port 0 is any free one, told by the engine's `url`. When
    the block is left, however that happens, every connection has been closed and every task has
    ended; calls that were active are counted as cancelled.

    Raises `ValueError` if `bind` is not `host:port`, and `OSError` if it cannot be listened on.
    """
    with _listen(bind) as listener:
        engine = SimulatedEngine(_url_of(listener), settings)
        ticker = Ticker()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ticker.run)
            nursery.start_soon(_accept, listener, engine, ticker, nursery)
            try:
                yield engine
            finally:
                nursery.cancel_scope.cancel()


async def simulate(bind: str, settings: EngineSettings) -> None:
    """Run an engine until cancelled; print one line with its address. Raises as `open_engine`."""
    async with open_engine(bind, settings) as engine:
        rate = f"{settings.rate:g} tokens/s" if settings.rate else "as fast as possible"
        facts = f"{rate}, ttft {settings.ttft:g} s"
        print(f"simulated engine listening on {engine.url} ({facts})", flush=True)
        await trio.sleep_forever()


def _listen(bind: str) -> socket.socket:
    host, colon, port = bind.rpartition(":")
    if not (colon and port.isdecimal() and int(port) < 65536):
        raise ValueError(f"the address to listen on must be host:port, not {bind!r}")
    host = host.removeprefix("[").removesuffix("]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, int(port)), family=family, backlog=socket.SOMAXCONN)
    listener.setblocking(False)
    return listener


def _url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _accept(
    listener: socket.socket, engine: SimulatedEngine, ticker: Ticker, nursery: trio.Nursery
) -> None:
    while True:
        await trio.lowlevel.wait_readable(listener)
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            continue  # whoever knocked has gone
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            _logger.warning("cannot accept a connection: %s", error)
            await trio.sleep(_EXHAUSTED_PAUSE)
            continue
        nursery.start_soon(_serve_connection, sock, engine, ticker)


async def _serve_connection(sock: socket.socket, engine: SimulatedEngine, ticker: Ticker) -> None:
    """Answer a client's requests until either side closes; what fails here stays here."""
    with sock:
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await _answer_requests(Connection(sock), engine, ticker)
        except trio.BrokenResourceError:
            pass  # the client has left
        except Exception:
            _logger.exception("a connection of the simulated engine failed")


async def _answer_requests(connection: Connection, engine: SimulatedEngine, ticker: Ticker) -> None:
    try:
        while (request := await connection.next_request()) is not None:
            try:
                await answer(request, connection, engine, ticker)
            except Refusal as refusal:
                body = error_body(refusal.failure, request.path)
                await connection.respond(refusal.failure.status, body, refusal.headers)
    except Refusal as refusal:
        body = error_body(refusal.failure)
        headers = {**refusal.headers, "connection": "close"}
        await connection.respond(refusal.failure.status, body, headers)
        await connection.linger()
