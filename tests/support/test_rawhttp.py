"""The raw HTTP client, against a server that answers with bytes from a script."""

import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import pytest
import trio
import trustme

from tests.support.rawhttp import RawClient, open_client, post_stream
from tests.support.sse import MalformedStreamError, SseEvent

SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

Handler = Callable[[trio.SocketStream], Awaitable[None]]


async def serve(nursery: trio.Nursery, handler: Handler) -> str:
    """Serve connections with `handler`, each closed when it returns, and return the address."""
    listeners = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
    return f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"


async def serve_reply(nursery: trio.Nursery, *pieces: bytes) -> str:
    """Serve connections that send `pieces` after the first bytes of a request, and close."""

    async def reply(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        for piece in pieces:
            await stream.send_all(piece)

    return await serve(nursery, reply)


def reset(stream: trio.SocketStream) -> None:
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


async def test_reset_in_a_body_cuts_it(nursery: trio.Nursery) -> None:
    may_reset = trio.Event()

    async def handler(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await may_reset.wait()
        reset(stream)

    async with open_client(await serve(nursery, handler)) as client:
        await client.request("GET", "/")
        await client.response_head()
        first = await client.chunk()
        may_reset.set()

        rest = await client.body()

        assert (first, rest, client.ended_properly) == (b"abc", b"", False)
        assert await client.wait_closed() == "reset"


async def test_body_is_not_called_ended_while_it_goes_on(nursery: trio.Nursery) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(CHUNKED + b"2\r\nab\r\n")
        await stream.receive_some()
        await stream.send_all(b"1\r\nc\r\n0\r\n\r\n")

    async with open_client(await serve(nursery, handler)) as client:
        await client.request("GET", "/")
        await client.response_head()

        assert await client.chunk() == b"ab"
        with pytest.raises(trio.TooSlowError):
            await client.chunk(within=0)
        assert not client.ended_properly
        await client.send(b"go on")
        assert await client.body() == b"c"
        assert client.ended_properly


@pytest.mark.parametrize(
    ("method", "headers", "body", "sent"),
    [
        ("GET", None, b"", b"GET /a?b HTTP/1.1\r\nhost: %s\r\n\r\n"),
        ("POST", None, b"", b"POST /a?b HTTP/1.1\r\nhost: %s\r\ncontent-length: 0\r\n\r\n"),
        ("PUT", None, b"xy", b"PUT /a?b HTTP/1.1\r\nhost: %s\r\ncontent-length: 2\r\n\r\nxy"),
        ("GET", {"X-A": "1"}, b"", b"GET /a?b HTTP/1.1\r\nhost: %s\r\nx-a: 1\r\n\r\n"),
        (
            "POST",
            {"Content-Length": "9"},
            b"xy",
            b"POST /a?b HTTP/1.1\r\nhost: %s\r\ncontent-length: 9\r\n\r\nxy",
        ),
    ],
)
async def test_request_sends_no_more_than_it_was_told(
    nursery: trio.Nursery, method: str, headers: dict[str, str] | None, body: bytes, sent: bytes
) -> None:
    requests: list[bytes] = []

    async def handler(stream: trio.SocketStream) -> None:
        requests.append(b"".join([data async for data in stream]))

    url = await serve(nursery, handler)
    async with open_client(url) as client:
        await client.request(method, "/a?b", headers=headers, body=body)
        client.half_close()

        assert await client.wait_closed() == "fin"
        assert [sent % url.removeprefix("http://").encode()] == requests


async def test_one_connection_carries_several_exchanges(nursery: trio.Nursery) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        async for request in stream:
            body = b"" if request.startswith(b"HEAD") else b"ok"
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + body)

    async with open_client(await serve(nursery, handler)) as client:
        bodies: list[bytes] = []
        for method in ("HEAD", "GET", "GET"):
            await client.request(method, "/")
            await client.response_head()
            bodies.append(await client.body())

        assert bodies == [b"", b"ok", b"ok"]


async def test_responses_to_pipelined_requests_come_one_by_one(nursery: trio.Nursery) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
    async with open_client(await serve_reply(nursery, answer + b"a" + answer + b"b")) as client:
        await client.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n" * 2)

        await client.response_head()
        first = await client.body()
        await client.response_head()
        second = await client.body()

        assert (first, second) == (b"a", b"b")


async def test_raw_reading_starts_with_what_the_head_brought_along(nursery: trio.Nursery) -> None:
    async with open_client(await serve_reply(nursery, CHUNKED + b"2\r\nab")) as client:
        await client.request("GET", "/")
        await client.response_head()

        raw = b""
        while piece := await client.read_some():
            raw += piece

        assert raw == b"2\r\nab"


async def test_events_are_read_across_chunks(nursery: trio.Nursery) -> None:
    pieces = [
        b"11\r\nid: g:1\ndata: a\n\n\r\n",
        b"a\r\n: ping\n\nda\r\n",
        b"7\r\nta: b\n\n\r\n0\r\n\r\n",
    ]
    url = await serve_reply(nursery, SSE_HEAD, *pieces)
    async with post_stream(url, "/v1/completions", {"stream": True}) as client:
        first, second = await client.next_event(), await client.next_event()

        assert SseEvent("g:1", None, b"a") == first
        assert SseEvent(None, None, b"b") == second
        assert await client.next_event() is None
        assert client.comments == [b" ping"]
        assert client.ended_properly


async def test_event_that_a_cut_leaves_unfinished_is_dropped(nursery: trio.Nursery) -> None:
    url = await serve_reply(nursery, SSE_HEAD, b"11\r\ndata: a\n\ndata: b\n\r\n")
    async with post_stream(url, "/", {}) as client:
        assert await client.next_event() == SseEvent(None, None, b"a")
        assert await client.next_event() is None
        assert not client.ended_properly


async def test_proper_end_inside_an_event_raises(nursery: trio.Nursery) -> None:
    url = await serve_reply(nursery, SSE_HEAD, b"8\r\ndata: b\n\r\n0\r\n\r\n")
    async with post_stream(url, "/", {}) as client:
        with pytest.raises(MalformedStreamError):
            await client.next_event()


@pytest.mark.parametrize(
    ("status", "content_type"), [("429 Slow Down", "text/event-stream"), ("200 OK", "text/plain")]
)
async def test_post_stream_shows_what_came_in_place_of_a_stream(
    nursery: trio.Nursery, status: str, content_type: str
) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: 4\r\n\r\n"
    url = await serve_reply(nursery, head.encode() + b"busy")

    with pytest.raises(AssertionError, match=rf"{status[:3]}.*{content_type}.*busy"):
        async with post_stream(url, "/", {}):
            pytest.fail("this is no stream")


@pytest.mark.parametrize(
    ("leave", "closure"),
    [(RawClient.close, "fin"), (RawClient.half_close, "fin"), (RawClient.reset, "reset")],
)
async def test_server_is_told_how_the_client_left(
    nursery: trio.Nursery, leave: Callable[[RawClient], None], closure: str
) -> None:
    send_told, receive_told = trio.open_memory_channel[str](1)

    async def handler(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        try:
            await send_told.send("bytes" if await stream.receive_some() else "fin")
        except trio.BrokenResourceError:
            await send_told.send("reset")

    async with open_client(await serve(nursery, handler)) as client:
        await client.request("GET", "/")
        leave(client)

        with trio.fail_after(10), send_told, receive_told:
            assert closure == await receive_told.receive()


async def test_wait_closed_tells_a_reset_from_a_fin(nursery: trio.Nursery) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        if await stream.receive_some() == b"reset":
            reset(stream)

    url = await serve(nursery, handler)
    closures: list[str] = []
    for order in (b"reset", b"fin"):
        async with open_client(url) as client:
            await client.send(order)
            closures.append(await client.wait_closed())

    assert closures == ["reset", "fin"]


@pytest.mark.parametrize(
    "wait",
    [RawClient.response_head, RawClient.read_some, RawClient.wait_closed],
    ids=lambda method: method.__name__,
)
async def test_silent_server_is_too_slow(
    nursery: trio.Nursery, wait: Callable[..., Awaitable[object]]
) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await stream.receive_some()

    async with open_client(await serve(nursery, handler)) as client:
        with pytest.raises(trio.TooSlowError):
            await wait(client, within=0.01)


async def test_small_receive_buffer_stops_the_server_early() -> None:
    async def bytes_accepted_unread(rcvbuf: int) -> int:
        accepted = 0
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with open_client(url, rcvbuf=rcvbuf):
                server, _ = listener.accept()
                with server, suppress(BlockingIOError):
                    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                    server.setblocking(False)
                    while True:
                        accepted += server.send(bytes(1024))
        return accepted

    small = await bytes_accepted_unread(4096)
    large = await bytes_accepted_unread(262_144)

    assert small < large / 4


async def test_tls_connection_is_read_and_closed_like_any_other(nursery: trio.Nursery) -> None:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server_context)  # pyright: ignore[reportUnknownMemberType]
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)  # pyright: ignore[reportUnknownMemberType]

    async def handler(transport: trio.SocketStream) -> None:
        stream = trio.SSLStream(transport, server_context, server_side=True)
        await stream.receive_some()
        await stream.send_all(CHUNKED + b"2\r\nab\r\n")

    url = (await serve(nursery, handler)).replace("http:", "https:")
    async with open_client(url, ssl_context=client_context) as client:
        await client.request("GET", "/")
        await client.response_head()

        body = await client.body()

        assert (body, client.ended_properly) == (b"ab", False)
        assert await client.wait_closed() == "fin"


async def test_failed_handshake_closes_the_socket(nursery: trio.Nursery) -> None:
    ended = trio.Event()

    async def handler(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"no TLS here\r\n")
        async for _ in stream:
            pass
        ended.set()

    url = (await serve(nursery, handler)).replace("http:", "https:")

    with pytest.raises(trio.BrokenResourceError):
        async with open_client(url, ssl_context=ssl.create_default_context()):
            pytest.fail("the handshake cannot succeed")
    with trio.fail_after(10):
        await ended.wait()
