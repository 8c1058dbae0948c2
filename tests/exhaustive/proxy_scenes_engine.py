"""The upstream of a scene: what it says to every call that is made of it."""

from __future__ import annotations

import math
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio
import trustme

from trioproxy.testing.upstream import ScriptedUpstream, UpstreamCall, sse

HOST, PORT = "engine", 8000
URL, TLS_URL = f"http://{HOST}:{PORT}", f"https://{HOST}:{PORT}"

_authority = trustme.CA()
TRUSTING = ssl.create_default_context()
"""What a caller needs to trust an engine that speaks TLS."""
_authority.configure_trust(TRUSTING)
_TRUSTED = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
_authority.issue_cert(HOST).configure_cert(_TRUSTED)

Script = Callable[[UpstreamCall], Awaitable[object]]
"""How one call is answered. That its caller leaves meanwhile is no concern of a script."""

LAST = 4
"""The seq of the last event with text of a call that is told whole; one more is :data:`DONE`."""
DONE = b"[DONE]"
TOLD_ERROR = b'{"error": {"message": "out of memory"}}'
REFUSAL = (
    b'{"error": {"message": "no such model", "type": "not_found", "param": null, '
    b'"code": "refused_by_the_engine"}}'
)
MODELS = b'{"object": "list", "data": []}'
WHOLE = b'{"object": "text_completion", "choices": []}'
JSON = ("content-type", "application/json")


def data_of(seq: int) -> bytes:
    """What the event with this number says: two of them are more than a small buffer holds."""
    return b'{"choices": [], "n": %d, "padding": "%b"}' % (seq, b"." * 200)


def events(*seqs: int) -> bytes:
    return sse(*map(data_of, seqs))


async def tell_in_one_piece(call: UpstreamCall) -> None:
    await call.start()
    await call.finish(events(1, 2, 3, 4) + sse(DONE))


async def tell_in_three_pieces(call: UpstreamCall) -> None:
    """1 at once, 2 and 3 a second later, the rest another second later."""
    await call.start()
    await call.write(events(1))
    await trio.sleep(1)
    await call.write(events(2, 3))
    await trio.sleep(1)
    await call.finish(events(4) + sse(DONE))


async def tell_the_end_in_pieces(call: UpstreamCall) -> None:
    """All of the text at once; a second later the end, in pieces that take as many steps as a
    request does."""
    await call.start()
    await call.write(events(1, 2, 3, 4))
    await trio.sleep(1)
    for piece in (b"da", b"ta: ", b"[DO", b"NE]", b"\n\n"):
        await call.write(piece)
    await call.finish()


async def tell_each_second(call: UpstreamCall) -> None:
    await call.start()
    for seq in range(1, LAST + 1):
        await call.write(events(seq))
        await trio.sleep(1)
    await call.finish(sse(DONE))


async def tell_without_end(call: UpstreamCall) -> None:
    """All of the text at once; then nothing, and no end."""
    await call.start()
    await call.write(events(1, 2, 3, 4))


async def tell_after_a_silence(call: UpstreamCall) -> None:
    """The head after five seconds."""
    await trio.sleep(5)
    await tell_in_one_piece(call)


async def tell_too_little(call: UpstreamCall) -> None:
    """1, and a proper end of the body."""
    await call.start()
    await call.finish(events(1))


async def tell_an_error(call: UpstreamCall) -> None:
    """1, and that it has failed."""
    await call.start()
    await call.finish(events(1) + sse(TOLD_ERROR))


async def refuse(call: UpstreamCall) -> None:
    await call.respond(500, JSON, body=REFUSAL)


async def leave(call: UpstreamCall) -> None:
    await trio.lowlevel.checkpoint()
    call.cut()


async def leave_after_the_head(call: UpstreamCall) -> None:
    await call.start()
    call.cut()


async def leave_after_the_first_event(call: UpstreamCall) -> None:
    await call.start()
    await call.write(events(1))
    call.cut()


async def answer_whole(call: UpstreamCall) -> None:
    """The answer to a call that does not stream, in two pieces, a second apart."""
    await call.start(200, JSON)
    await call.write(WHOLE[:10])
    await trio.sleep(1)
    await call.finish(WHOLE[10:])


async def list_models(call: UpstreamCall) -> None:
    """The answer to a call that is forwarded, in two pieces, a second apart."""
    await call.start(200, JSON)
    await call.write(MODELS[:10])
    await trio.sleep(1)
    await call.finish(MODELS[10:])


class Engine:
    """Listens, and answers each call by the ``script`` of the moment, until its caller leaves.
    What it does are tasks of ``nursery``."""

    def __init__(self, upstream: ScriptedUpstream, nursery: trio.Nursery) -> None:
        self.upstream = upstream
        self.script: Script = tell_in_one_piece
        self._nursery = nursery
        self._listening: trio.CancelScope | None = None
        nursery.start_soon(self._answer_calls)

    async def listen(self) -> None:
        """Let callers in from now on, if it does not already."""
        if self._listening is None:
            self._listening = trio.CancelScope()
            listeners = await trio.open_tcp_listeners(PORT, host=HOST)
            self._nursery.start_soon(self._serve, listeners, self._listening)

    def stop_listening(self) -> None:
        """Refuse whoever calls from now on."""
        if self._listening is not None:
            self._listening.cancel(reason="nobody is to be there")
            self._listening = None

    async def _serve(
        self, listeners: list[trio.SocketListener], listening: trio.CancelScope
    ) -> None:
        with listening:
            await trio.serve_listeners(self._serve_caller, listeners)

    async def _serve_caller(self, stream: trio.SocketStream) -> None:
        if self.upstream.url == TLS_URL:
            tls = trio.SSLStream(stream, _TRUSTED, server_side=True, https_compatible=True)
            await self.upstream.serve_client(tls)
        else:
            await self.upstream.serve_client(stream)

    async def _answer_calls(self) -> None:
        while True:
            call = await self.upstream.next_call(within=math.inf)
            self._nursery.start_soon(self._answer, call)

    async def _answer(self, call: UpstreamCall) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._speak, call)
            with suppress(trio.ClosedResourceError):  # by the script, or by the blow
                await call.wait_departure(within=math.inf)
            nursery.cancel_scope.cancel(reason="the caller has left")
        call.cut()

    async def _speak(self, call: UpstreamCall) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.script(call)
