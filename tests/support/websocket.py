"""The client's side of a WebSocket, byte by byte (RFC 6455)."""

from __future__ import annotations

import struct

import trio

from tests.support.rawhttp import WITHIN, RawClient

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0
_MASK = b"\1\2\3\4"

HANDSHAKE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True) -> bytes:
    """One frame as a client sends it (RFC 6455, section 5.2)."""
    size = len(payload)
    first = bytes([opcode | (0x80 if fin else 0)])
    mask_bit = 0x80 if masked else 0
    if size < 126:
        head = first + bytes([mask_bit | size])
    elif size < 1 << 16:
        head = first + bytes([mask_bit | 126]) + struct.pack("!H", size)
    else:
        head = first + bytes([mask_bit | 127]) + struct.pack("!Q", size)
    if not masked:
        return head + payload
    mask = (_MASK * (size // 4 + 1))[:size]
    scrambled = int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")
    return head + _MASK + scrambled.to_bytes(size, "big")


class Peer:
    """One that is connected. It waits for ``within`` seconds for what comes."""

    def __init__(self, client: RawClient, *, within: float = WITHIN) -> None:
        self.client = client
        self._within = within
        self._received = bytearray()

    async def send(self, data: bytes) -> None:
        await self.client.send(data, within=self._within)

    async def next_frame(self) -> tuple[int, bytes]:
        """The next frame: its opcode and its payload."""
        head = await self._take(2)
        size = head[1] & 0x7F
        if size == 126:
            size = struct.unpack("!H", await self._take(2))[0]
        elif size == 127:
            size = struct.unpack("!Q", await self._take(8))[0]
        return head[0] & 0x0F, await self._take(size)

    async def wait_closed(self) -> int:
        """Read until a close frame: its code."""
        with trio.fail_after(self._within):
            while True:
                opcode, payload = await self.next_frame()
                if opcode == CLOSE:
                    return struct.unpack("!H", payload[:2])[0]

    async def _take(self, count: int) -> bytes:
        while len(self._received) < count:
            data = await self.client.read_some(within=self._within)
            assert data, "the connection ended without a close frame"
            self._received += data
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken
