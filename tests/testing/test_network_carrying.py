"""The bytes themselves: on the kernel's network and on the virtual one."""

from __future__ import annotations

import random
from array import array

import pytest
import trio
from trio.socket import SocketType

from tests.testing.networks import (
    Network,
    fill,
    hold_little,
    on_both_networks,
    open_pair,
    receive,
    receive_all,
    wait_readable,
)

MUCH = random.Random(1).randbytes(3_000_000)
AS_MUCH_AGAIN = random.Random(2).randbytes(3_000_000)


async def _send_all_and_end(socket: SocketType, data: bytes) -> None:
    stream = trio.SocketStream(socket)
    await stream.send_all(data)
    await stream.send_eof()


@on_both_networks
async def test_both_ways_at_once_every_byte_arrives_in_its_place(network: Network) -> None:
    received: dict[str, bytes] = {}

    async def receive_into(name: str, socket: SocketType) -> None:
        received[name] = await receive_all(socket)

    async with open_pair(network) as (near, far), trio.open_nursery() as nursery:
        nursery.start_soon(_send_all_and_end, near, MUCH)
        nursery.start_soon(_send_all_and_end, far, AS_MUCH_AGAIN)
        nursery.start_soon(receive_into, "near", near)
        nursery.start_soon(receive_into, "far", far)

    assert received == {"near": AS_MUCH_AGAIN, "far": MUCH}


@on_both_networks
async def test_bytes_are_cut_where_the_receiver_says_and_joined_where_it_is_late(
    network: Network,
) -> None:
    async with open_pair(network) as (near, far):
        for piece in (b"one ", b"two ", b"three"):
            await near.send(piece)
        near.close()

        pieces = [await far.recv(6), await far.recv(6), await far.recv(6), await far.recv(6)]

    assert pieces == [b"one tw", b"o thre", b"e", b""]


@on_both_networks
async def test_a_send_takes_what_there_is_room_for(network: Network) -> None:
    async with open_pair(network) as (near, far):
        hold_little(near, far)

        taken = await near.send(MUCH)

        assert 0 < taken < len(MUCH)
        assert await receive(far, taken) == MUCH[:taken]


@on_both_networks
async def test_room_is_made_by_receiving(network: Network) -> None:
    async with open_pair(network) as (near, far):
        hold_little(near, far)
        filled = await fill(near)
        await receive(far, filled)

        filled_again = await fill(near)

        assert filled_again > filled / 2


@on_both_networks
@pytest.mark.parametrize(
    "data",
    [bytearray(b"abcdefgh"), memoryview(b"abcdefgh"), array("I", b"abcdefgh")],
    ids=["bytearray", "memoryview", "array of integers"],
)
async def test_anything_that_is_bytes_can_be_sent(
    network: Network, data: bytearray | memoryview | array[int]
) -> None:
    async with open_pair(network) as (near, far):
        sent = await near.send(data)

        assert (sent, await far.recv(100)) == (8, b"abcdefgh")


@on_both_networks
async def test_what_was_sent_does_not_change_with_the_buffer_that_it_was_in(
    network: Network,
) -> None:
    async with open_pair(network) as (near, far):
        buffer = bytearray(b"sent")
        await near.send(buffer)
        buffer[:] = b"changed"

        assert await far.recv(100) == b"sent"


@on_both_networks
async def test_sending_nothing_sends_nothing(network: Network) -> None:
    async with open_pair(network) as (near, far):
        hold_little(near, far)
        filled = await fill(near)

        assert await near.send(b"") == 0
        near.close()
        assert await receive_all(far) == bytes(filled)


@on_both_networks
async def test_sending_nothing_to_who_has_closed_is_not_answered_with_a_reset(
    network: Network,
) -> None:
    async with open_pair(network) as (near, far):
        far.close()
        await wait_readable(near)

        sent = [await near.send(b""), await near.send(b""), await near.send(b"a")]

        assert sent == [0, 0, 1]
