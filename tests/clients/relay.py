"""A bad network between a client and the proxy: a TCP relay that cuts connections."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from urllib.parse import urlsplit

import trio

_RECEIVE_BYTES = 65536
_ANSWER = b"HTTP/1.1 "
_HEAD_END = b"\r\n\r\n"
_STREAM = re.compile(
    rb"\S+ 200 .*^content-type: (text/event-stream|application/x-ndjson)", re.I | re.M | re.S
)
_EVENT_END = b"\n\n"
_LINE_END = b"}\n"  # no line end of the chunks is behind a brace
_RETRY = b"retry: 10" + _EVENT_END
_RETRY_CHUNK = b"%x\r\n%b\r\n" % (len(_RETRY), _RETRY)
_LONGEST_REST = 150


class Relay:
    """It passes on each connection that is made to `url`, and closes it in the middle of a stream
    of events, or of lines of JSON, after 1 to `longest_run` of them and, unless it is `clean`, a
    part of the next. When it has cut `cuts` connections, it cuts no more.

    With `retry` it tells an `EventSource` to come back after 10 ms, with a field of its own in
    front of the first event, which some clients in Python take for an event.

    Attributes:
        url: where it listens.
        cuts_left: how many connections it is still to cut.
    """

    def __init__(
        self,
        target: str,
        url: str,
        random: Random,
        *,
        cuts: int,
        longest_run: int,
        clean: bool,
        retry: bool,
    ) -> None:
        address = urlsplit(target)
        assert address.hostname is not None
        assert address.port is not None
        self.url = url
        self.cuts_left = cuts
        self._target = (address.hostname, address.port)
        self._random = random
        self._longest_run = longest_run
        self._longest_rest = 0 if clean else _LONGEST_REST
        self._prelude = _RETRY_CHUNK if retry else b""

    async def carry(self, client: trio.SocketStream) -> None:
        """Carry one connection, until either side ends it or it is cut."""
        async with client, await trio.open_tcp_stream(*self._target) as server:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._carry_requests, client, server, nursery.cancel_scope)
                    await self._carry_answers(server, client)
                    nursery.cancel_scope.cancel(reason="the server has left, or is cut off")
            except* trio.BrokenResourceError:
                pass  # one side has left: so does the relay, on the other

    async def _carry_requests(
        self, client: trio.SocketStream, server: trio.SocketStream, connection: trio.CancelScope
    ) -> None:
        while data := await client.receive_some(_RECEIVE_BYTES):
            await server.send_all(data)
        connection.cancel(reason="the client has left")

    async def _carry_answers(self, server: trio.SocketStream, client: trio.SocketStream) -> None:
        cut: Cut | None = None
        while data := await server.receive_some(_RECEIVE_BYTES):
            # A client asks again when it has had all of an answer: the next begins with a read.
            if data.startswith(_ANSWER):
                head, data = await _read_head(server, data)
                cut = None
                if stream := _STREAM.match(head):
                    is_lines = stream[1].endswith(b"ndjson")
                    cut = self._choose_cut(_LINE_END if is_lines else _EVENT_END)
                    head += b"" if is_lines else self._prelude
                await client.send_all(head)
            passed = cut.pass_on(data) if cut is not None and self.cuts_left else data
            is_cut = len(passed) < len(data)
            self.cuts_left -= is_cut
            await client.send_all(passed)
            if is_cut:
                return

    def _choose_cut(self, event_end: bytes) -> Cut:
        events = self._random.randint(1, self._longest_run)
        return Cut(event_end, events, self._random.randint(0, self._longest_rest))


class Cut:
    """The place where a body is cut: after so many events, and so many bytes of what follows."""

    def __init__(self, event_end: bytes, events: int, rest: int) -> None:
        self._event_end = event_end
        self._events = events
        self._rest = rest
        self._body = bytearray()

    def pass_on(self, data: bytes) -> bytes:
        """The part of the next piece of the body that lies before the cut."""
        begin = len(self._body)
        self._body += data
        end = 0
        for _ in range(self._events):
            found = self._body.find(self._event_end, end)
            if found < 0:
                return data
            end = found + len(self._event_end)
        return data[: max(end + self._rest - begin, 0)]


@asynccontextmanager
async def open_relay(
    target: str,
    *,
    cuts: int = 0,
    longest_run: int = 1,
    clean: bool = False,
    retry: bool = True,
    seed: int = 0,
) -> AsyncGenerator[Relay]:
    """A relay to the host and port of the URL `target`, for the length of the block."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port: int = listener.socket.getsockname()[1]
    relay = Relay(
        target,
        f"http://127.0.0.1:{port}",
        Random(seed),
        cuts=cuts,
        longest_run=longest_run,
        clean=clean,
        retry=retry,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, relay.carry, [listener]))
        yield relay
        nursery.cancel_scope.cancel(reason="the test is through with it")


async def _read_head(server: trio.SocketStream, data: bytes) -> tuple[bytes, bytes]:
    """The head of an answer that begins with `data`, and what came of its body."""
    while _HEAD_END not in data:
        more = await server.receive_some(_RECEIVE_BYTES)
        if not more:
            return data, b""
        data += more
    head, _, body = data.partition(_HEAD_END)
    return head + _HEAD_END, body
