"""A proxy that a test plays itself, call by call, on a network in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio

from tests.client.scenes import PROXY
from trioproxy.client import Client, open_client
from trioproxy.testing.network import VirtualNetwork
from trioproxy.testing.proxy import ADDRESS
from trioproxy.testing.upstream import ScriptedUpstream, UpstreamCall
from trioproxy.wire import Message, encode

GENERATION = "gen_1"
NAMED = ("x-generation-id", GENERATION)
STREAM = (("content-type", "text/event-stream; charset=utf-8"), NAMED)
LINES = (("content-type", "application/x-ndjson"), NAMED)
DONE = b"[DONE]"

Script = Callable[[UpstreamCall], Awaitable[object]]


class PlayedProxy:
    """Answers one call by each script in turn, and notes when which call came. A call too many is
    a failure of the test."""

    def __init__(self, network: VirtualNetwork, scripts: Sequence[Script]) -> None:
        self.network = network
        self.calls: list[UpstreamCall] = []
        self.times: list[float] = []
        self._scripts = list(scripts)

    @property
    def targets(self) -> list[str]:
        """Method and target of each call."""
        return [f"{call.method} {call.target.decode()}" for call in self.calls]

    def header(self, number: int, name: str) -> str | None:
        """What a header of the call with this number, from 0, says."""
        found = dict(self.calls[number].headers).get(name.encode())
        return None if found is None else found.decode()

    async def answer(self, upstream: ScriptedUpstream, nursery: trio.Nursery) -> None:
        while True:
            call = await upstream.next_call(within=float("inf"))
            self.calls.append(call)
            self.times.append(trio.current_time())
            nursery.start_soon(speak, self._scripts.pop(0), call)


async def speak(script: Script, call: UpstreamCall) -> None:
    """That its caller leaves meanwhile is no concern of a script."""
    with suppress(trio.BrokenResourceError):
        await script(call)


@asynccontextmanager
async def play(*scripts: Script, **options: Any) -> AsyncGenerator[tuple[PlayedProxy, Client]]:
    """A client, opened with these options, and the proxy that it asks."""
    with VirtualNetwork() as network, ScriptedUpstream(PROXY) as upstream:
        proxy = PlayedProxy(network, scripts)
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_tcp, upstream.serve_client, ADDRESS[1])
            nursery.start_soon(proxy.answer, upstream, nursery)
            async with open_client(PROXY, **options) as client:
                yield proxy, client
            nursery.cancel_scope.cancel(reason="the play is over")


def token(seq: int) -> bytes:
    """An event with its id."""
    return event(seq, b'{"choices": [{"text": " %d"}]}' % seq)


def event(seq: int, data: bytes, name: bytes | None = None) -> bytes:
    return encode(Message(name, data), f"{GENERATION}:{seq}".encode())


def own(data: bytes, name: bytes | None = None) -> bytes:
    """What the proxy says in its own name."""
    return encode(Message(name, data))


def tokens(first: int, last: int) -> bytes:
    return b"".join(map(token, range(first, last + 1)))


def says(*body: bytes, head: Sequence[tuple[str, str]] = STREAM) -> Script:
    """An answer that is whole."""

    async def script(call: UpstreamCall) -> None:
        await call.start(200, *head)
        await call.finish(b"".join(body))

    return script


def breaks_off(*body: bytes, head: Sequence[tuple[str, str]] = STREAM) -> Script:
    """An answer that is cut in the middle; before its head where there is no body."""

    async def script(call: UpstreamCall) -> None:
        if body:
            await call.start(200, *head)
            await call.write(b"".join(body))
        call.cut()

    return script


def refuses(status: int, *headers: tuple[str, str], code: str = "no") -> Script:
    error = {"error": {"message": "not now", "type": "kind", "code": code}}

    async def script(call: UpstreamCall) -> None:
        await call.respond(status, *headers, body=json.dumps(error).encode())

    return script


def describes(events: int, kind: str | None = None, reason: str | None = None) -> Script:
    """A generation that runs, or has ended in this way."""
    outcome = None if kind is None else {"kind": kind, "reason": reason}
    description = {"path": "/v1/completions", "events": events, "outcome": outcome}

    async def script(call: UpstreamCall) -> None:
        await call.respond(200, body=json.dumps(description).encode())

    return script


async def has_read_all(call: UpstreamCall) -> None:
    """204: it has ended, and there is nothing more."""
    await call.write_raw(b"HTTP/1.1 204 No Content\r\n\r\n")


async def says_nothing(call: UpstreamCall) -> None:
    """Not even a head."""
    await trio.lowlevel.checkpoint()
