"""The log's own thread: whoever logs hands a line over, and never waits for whoever reads it.

A pipe that nobody empties stops who writes to it, and that must not be the event loop. The standard
library's queue and listener for logs would do but for two things: that queue is bounded by a number
of lines, whatever their size, and its end waits for the thread without a deadline.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Iterator

MAX_WAITING_BYTES = 4 * 1024 * 1024
"""So much may wait to be written; lines beyond are dropped, counted and told of."""

CLOSE_SECONDS = 1.5
"""What the thread gets to write the rest in at the end; then it is left behind."""


class LogWriter(logging.Handler):
    """Writes what is logged to a file descriptor, in a thread of its own. ``dropped`` counts the
    lines that were not written.

    A write that fails costs the lines that it was for; the next is tried afresh.
    """

    def __init__(self, fd: int) -> None:
        super().__init__()
        self.dropped = 0
        self._fd = fd
        self._lines: list[bytes] = []
        self._waiting_bytes = 0  # of the lines, and of what is being written
        self._untold = 0
        self._closing = False
        self._changed = threading.Condition()
        # A daemon: one that is stuck in a write does not hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a record over, as a line. Never waits for a write."""
        try:
            line = self._line(record)
        except Exception:
            self.handleError(record)
            return
        with self._changed:
            if self._waiting_bytes + len(line) > MAX_WAITING_BYTES:
                self.dropped += 1
                self._untold += 1
                return
            self._lines.append(line)
            self._waiting_bytes += len(line)
            self._changed.notify()

    def stop(self) -> None:
        """Have what waits written, for :data:`CLOSE_SECONDS` at most, and end the thread. One that
        is stuck then is left behind."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(CLOSE_SECONDS)

    def _line(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode("utf-8", "backslashreplace") + b"\n"

    # -- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closing)
                if not self._lines:
                    return
                lines, self._lines = self._lines, []
                untold, self._untold = self._untold, 0
            lost = sum(map(self._write, _pieces(lines)))
            if untold and not self._write(self._line(_record_of_dropped(untold))):
                untold = 0
            with self._changed:
                self._waiting_bytes -= sum(map(len, lines))
                self.dropped += lost
                self._untold += untold + lost

    def _write(self, data: bytes) -> int:
        """Write all of it; return how many of its lines could not be."""
        sent = 0
        while sent < len(data):
            try:
                sent += os.write(self._fd, data[sent:])
            except BlockingIOError:  # whoever shares the pipe has made it so
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll()
            except OSError:  # counted, and told as soon as writing works again
                return data[sent:].count(b"\n")
        return 0


def _pieces(lines: list[bytes]) -> Iterator[bytes]:
    """The lines, together as far as a pipe keeps them apart from another writer's (pipe(7),
    "PIPE_BUF")."""
    piece = b""
    for line in lines:
        if piece and len(piece) + len(line) > select.PIPE_BUF:
            yield piece
            piece = b""
        piece += line
    yield piece


def _record_of_dropped(lines: int) -> logging.LogRecord:
    facts = {"msg": "log lines dropped", "levelno": logging.WARNING, "levelname": "WARNING"}
    return logging.makeLogRecord({"name": __name__, "lines": lines} | facts)
