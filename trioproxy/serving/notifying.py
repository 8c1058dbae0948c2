"""What a service manager is told of this process: sd_notify(3), a datagram for each word of it.

Nothing here waits: a manager that does not listen is no reason to stop serving.
"""

from __future__ import annotations

import logging
import math
import os
import socket as stdlib_socket
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing
from typing import NoReturn

import trio

logger = logging.getLogger(__name__)


class Notifier:
    """Tells the manager that listens at ``address`` (a Unix socket's path, or with an @ in front an
    abstract name); where that is None, nobody. It wants to hear that the process lives every
    ``watchdog`` seconds (inf: it does not)."""

    def __init__(self, address: str | None, *, watchdog: float = math.inf) -> None:
        is_abstract = address is not None and address.startswith("@")
        self._address = "\0" + address[1:] if address and is_abstract else address
        self.watchdog = watchdog
        self._socket = stdlib_socket.socket(stdlib_socket.AF_UNIX, stdlib_socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def ready(self) -> None:
        """It listens; or has done what it was to do anew."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """It does something anew, and tells when that is done: :meth:`ready`."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """It is going."""
        self._tell("STOPPING=1")

    async def feed_watchdog(self) -> NoReturn:
        """Say that the process lives, as often again as is wanted: whoever runs this in the loop
        that serves has told that it turns. If cancelled, nothing more is said."""
        while True:
            await trio.sleep(self.watchdog / 2)
            self._tell("WATCHDOG=1")

    def close(self) -> None:
        """Tell nothing more."""
        self._socket.close()

    def _tell(self, state: str) -> None:
        if self._address is None:
            return
        try:
            self._socket.sendto(state.encode(), self._address)
        except OSError as error:
            logger.warning("the service manager was not told %s: %s", state.split("\n")[0], error)


def open_notifier(environ: Mapping[str, str]) -> AbstractContextManager[Notifier]:
    """The one that the environment names, for the length of a block (sd_watchdog_enabled(3))."""
    watchdog = math.inf
    if environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
        watchdog = float(environ.get("WATCHDOG_USEC") or math.inf) / 1e6
    return closing(Notifier(environ.get("NOTIFY_SOCKET") or None, watchdog=watchdog))
