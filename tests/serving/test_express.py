"""The express lane: what the socket takes at once, and what becomes of the rest."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
import trio.testing

from tests.serving.apps import TLS
from tests.support.rawhttp import WITHIN, RawClient, open_client
from tests.web.service import COMPLETIONS, ScriptedService, open_scripted
from trioproxy.fanout import Generation
from trioproxy.net import DirectStream, KernelSocket
from trioproxy.serving.express import ExpressLane
from trioproxy.testing.upstream import UpstreamCall, sse

MUCH = bytes(range(256)) * 40_000


@contextmanager
def open_stream(*, write_timeout: float = 10.0) -> Iterator[tuple[DirectStream, socket.socket]]:
    """A client's stream, and the client."""
    ours, theirs = socket.socketpair()
    stream = DirectStream(KernelSocket(ours.detach()), write_timeout=write_timeout)
    with theirs:
        yield stream, theirs
        stream.close()


def read_to_end(client: socket.socket) -> None:
    while client.recv(1 << 20):
        pass


def lane_of(stream: DirectStream) -> ExpressLane:
    return ExpressLane(stream, trio.Lock(), stream.send_all)


async def test_what_the_socket_takes_is_written_at_once() -> None:
    with open_stream() as (stream, client):
        lane = lane_of(stream)

        assert lane.write_nowait(b"whole") == 5
        assert lane.is_clear
        assert client.recv(100) == b"whole"


async def test_the_rest_of_a_part_goes_before_any_later_byte() -> None:
    with open_stream() as (stream, client):
        lane = lane_of(stream)
        taken = lane.write_nowait(MUCH)
        received = bytearray()

        assert 0 < taken < len(MUCH)
        assert not lane.is_clear
        assert lane.write_nowait(b"too early") == 0
        with trio.fail_after(WITHIN):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.send_all, b"0\r\n\r\n")
                client.setblocking(False)
                while len(received) < len(MUCH) + 5:
                    await trio.lowlevel.wait_readable(client)
                    received += client.recv(1 << 20)
        assert lane.is_clear
        assert received == MUCH + b"0\r\n\r\n"


async def test_a_flush_writes_the_rest_and_is_cut_off_with_who_takes_none() -> None:
    with open_stream(write_timeout=0.1) as (stream, _):
        lane = lane_of(stream)
        lane.write_nowait(MUCH)

        with pytest.raises(trio.BrokenResourceError):
            await lane.flush()


async def test_a_cancelled_flush_ends_the_connection() -> None:
    with open_stream() as (stream, client):
        lane = lane_of(stream)
        lane.write_nowait(MUCH)
        with trio.move_on_after(0.05) as scope:
            await lane.flush()

        assert scope.cancelled_caught
        assert stream.socket.fileno() < 0
        assert lane.write_nowait(b"more") == 0
        client.setblocking(False)


async def test_a_part_is_cut_off_where_its_connection_closes() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()) as client:
        ours, _ = listener.accept()
        stream = DirectStream(KernelSocket(ours.detach()), write_timeout=10)
        assert lane_of(stream).write_nowait(MUCH) < len(MUCH)
        stream.close()

        with pytest.raises(ConnectionResetError):
            read_to_end(client)


async def test_nothing_is_written_beside_another_write() -> None:
    with open_stream() as (stream, _):
        writing = trio.Lock()
        lane = ExpressLane(stream, writing, stream.send_all)
        async with writing:
            assert lane.write_nowait(b"a") == 0
        assert lane.write_nowait(b"a") == 1


async def test_who_has_left_takes_nothing_and_nothing_is_raised() -> None:
    with open_stream() as (stream, client):
        lane = lane_of(stream)
        client.close()

        assert lane.write_nowait(b"a") == 0
        assert lane.write_nowait(b"b") == 0


async def stream_first_event(
    service: ScriptedService, client: RawClient
) -> tuple[UpstreamCall, Generation]:
    """The client has asked; once it has read the first event and the proxy waits for the next, the
    call and its generation."""
    call = await service.upstream.next_call()
    await call.start()
    await call.write(sse(b"1"))
    await client.response_head()
    await client.chunk()
    [generation] = service.proxy.hub.running
    await trio.testing.wait_all_tasks_blocked()
    return call, generation


@pytest.mark.parametrize(("version", "is_lent"), [("1.1", True), ("1.0", False)])
async def test_the_lane_is_for_chunked_answers(version: str, is_lent: bool) -> None:
    body = b'{"prompt": "a", "stream": true}'
    async with open_scripted() as service, open_client(service.url) as client:
        await client.send(
            f"POST {COMPLETIONS} HTTP/{version}\r\nhost: localhost\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        call, generation = await stream_first_event(service, client)

        assert bool(generation.pump.sinks) == is_lent
        await call.write(sse(b"2"))
        assert b"data: 2\n" in (await client.chunk() or b"")


async def test_over_tls_no_lane_is_express(tls: TLS) -> None:
    settings = {"certfile": tls.certfile, "keyfile": tls.keyfile}
    async with (
        open_scripted(**settings) as service,
        open_client(service.url, ssl_context=tls.client) as client,
    ):
        await client.request("POST", COMPLETIONS, body=b'{"prompt": "a", "stream": true}')
        _, generation = await stream_first_event(service, client)

        assert generation.pump.sinks == {}
