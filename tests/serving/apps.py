"""Small ASGI applications, and the server under test with one of them on it.

An application is a table of answers, one for each path. It remembers which requests reached it, and
tells when one of them was cancelled: that is how an application learns that its client has left.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio
from hypercorn.config import Config
from trio.testing import wait_all_tasks_blocked

from trioproxy.serving.listening import listen
from trioproxy.serving.server import Server, open_server

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CHUNK = b"data: a token\n\n"
BUSY_SECONDS = 0.005
"""Between two chunks of a busy stream."""


class Exchange:
    """One request and its response (ASGI specification, HTTP and WebSocket, version 2.1)."""

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.receive = receive
        self._send = send

    async def body(self) -> bytes:
        """The request's body, whole."""
        body = b""
        while (message := await self.receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                return body
        raise AssertionError(f"{message} came before the end of the body {body!r}")

    async def start(self, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Send the head."""
        pairs = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def write(self, data: bytes) -> None:
        """Send a part of the body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes = b"") -> None:
        """Send the last part of the body, and its end."""
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def respond(self, status: int, body: bytes = b"") -> None:
        """Send a whole response."""
        await self.start(status, {"content-length": str(len(body))})
        await self.finish(body)


Answer = Callable[[Exchange], Awaitable[None]]


class App:
    """The application itself. ``requests`` are those that reached it, as ``METHOD /path``;
    ``cancelled`` is set when one of them was cancelled before its answer returned."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.requests: list[str] = []
        self.cancelled = trio.Event()
        self._answers = answers

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        self.requests.append(f"{scope['method']} {scope['path']}")
        try:
            await self._answers[scope["path"]](Exchange(scope, receive, send))
        except trio.Cancelled:
            self.cancelled.set()
            raise

    async def _live(self, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": f"{message['type']}.complete"})


@dataclass(frozen=True)
class TLS:
    """A server's certificate for 127.0.0.1, as files, and a client's context that trusts it."""

    certfile: str
    keyfile: str
    client: ssl.SSLContext


@asynccontextmanager
async def open_app(
    app: App,
    *,
    tls: TLS | None = None,
    write_timeout: float = 30.0,
    reuse_port: bool = False,
    **config: Any,
) -> AsyncGenerator[Server]:
    """Serve ``app`` on a free port of the loopback interface. ``config`` are settings of
    hypercorn's."""
    settings = Config()
    settings.bind = ["127.0.0.1:0"]
    if tls is not None:
        settings.certfile, settings.keyfile = tls.certfile, tls.keyfile
    settings.alpn_protocols = ["http/1.1"]
    for name, value in config.items():
        setattr(settings, name, value)
    listen_on = partial(listen, settings, write_timeout=write_timeout, reuse_port=reuse_port)
    async with open_server(app, settings, listen_on) as server:  # pyright: ignore[reportArgumentType]
        await wait_all_tasks_blocked()  # so that a census of the tasks finds all of the server's
        yield server


# -- answers ---------------------------------------------------------------------------------------


async def answer_busily(exchange: Exchange) -> None:
    """A stream with a chunk each few milliseconds, without an end."""
    await exchange.start()
    while True:
        await exchange.write(CHUNK)
        await trio.sleep(BUSY_SECONDS)


async def answer_quietly(exchange: Exchange) -> None:
    """A stream with one chunk, then silence."""
    await exchange.start()
    await exchange.write(CHUNK)
    await trio.sleep_forever()


async def think(exchange: Exchange) -> None:
    """No answer at all."""
    await trio.sleep_forever()


async def flood(exchange: Exchange) -> None:
    """A stream as fast as the client takes it, without an end."""
    await exchange.start()
    while True:
        await exchange.write(bytes(65536))


async def stream_briefly(exchange: Exchange) -> None:
    """A stream of three chunks, to its end."""
    await exchange.start()
    for _ in range(3):
        await exchange.write(CHUNK)
    await exchange.finish()


async def echo(exchange: Exchange) -> None:
    """The request's body."""
    await exchange.respond(200, await exchange.body())


async def refuse(exchange: Exchange) -> None:
    """A 401 at once, whatever the body."""
    await exchange.respond(401, b"who are you?")


async def crash(exchange: Exchange) -> None:
    """A defect before the head."""
    raise ValueError("a defect of the application")


async def crash_in_the_body(exchange: Exchange) -> None:
    """A defect after the head and a first chunk."""
    await exchange.start()
    await exchange.write(CHUNK)
    raise ValueError("a defect of the application")


ANSWERS: Mapping[str, Answer] = {
    "/busy": answer_busily,
    "/quiet": answer_quietly,
    "/thinking": think,
    "/flood": flood,
    "/brief": stream_briefly,
    "/echo": echo,
    "/refuse": refuse,
    "/crash": crash,
    "/crash-in-the-body": crash_in_the_body,
}
