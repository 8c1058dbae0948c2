"""A port on which two processes listen for a while, so that one can go without a client lost.

The kernel spreads newcomers over both (socket(7), SO_REUSEPORT), and resets those that it finds in
the socket that is closed: those that wait to be accepted, whom
:class:`~trioproxy.serving.listener.KernelListener` accepts before, and those of whom the last of
the three packets of TCP's handshake is under way, whom nobody can accept yet. So the socket that is
about to be closed drops the first packet of each newcomer. It sends that again a second later
(RFC 6298, section 2), and then meets the other process. The handshakes that had begun end
meanwhile. (With net.ipv4.tcp_migrate_req the kernel hands them over by itself; it is off by
default, and not ours to set.)
"""

from __future__ import annotations

import logging
import socket as stdlib_socket
import struct
from array import array
from collections.abc import Sequence

from trioproxy.serving.listener import KernelListener

logger = logging.getLogger(__name__)

SO_ATTACH_FILTER = 26

PASS = 0xFFFFFFFF
SYN = 0x02

Instruction = tuple[int, int, int, int]
"""Of classic BPF: what to do, how far to jump where it holds and where not, and with what."""

_DROP_SYN: list[
    Instruction
] = [  # as bpf_asm of the kernel's tools would have it, on the header of TCP
    (0x30, 0, 0, 13),  # ldb [13]: the flags (RFC 9293, section 3.1)
    (0x45, 0, 1, SYN),  # jset: the next if it is set, else the one after
    (0x06, 0, 0, 0),  # ret 0: none of the packet
    (0x06, 0, 0, PASS),  # ret: all of it
]


class SharedPortListener(KernelListener):
    """A listening TCP socket beside that of another process."""

    def turn_away(self) -> bool:
        """Drop the first packet of whoever comes, so that they come to the other process in a
        second. False, and the log says why, where the kernel does not let us."""
        try:
            attach_filter(self.socket, _DROP_SYN)
        except OSError as error:
            logger.warning("clients that are just connecting may be reset: %s", error)
            return False
        return True


def attach_filter(socket: stdlib_socket.socket, program: Sequence[Instruction]) -> None:
    """Have a program of the kernel's decide how much of each packet gets in (socket(7),
    SO_ATTACH_FILTER). Raises :exc:`OSError`."""
    packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    held = array("B", packed)  # where its address can be had
    described = struct.pack("HP", len(program), held.buffer_info()[0])  # struct sock_fprog
    socket.setsockopt(stdlib_socket.SOL_SOCKET, SO_ATTACH_FILTER, described)
