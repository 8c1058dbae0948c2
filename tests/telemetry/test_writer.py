"""The log's thread: whoever logs never waits, and what is lost is told."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trioproxy.telemetry import open_log
from trioproxy.telemetry import writer as module
from trioproxy.telemetry.writer import LogWriter

LINE = "x" * 1000
ROOM = 200_000
"""Bytes: more than a pipe holds, and soon full."""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for fd in (reading, writing):
        try:
            os.close(fd)
        except OSError:
            assert fd == reading  # the test has closed it


@pytest.fixture(autouse=True)
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", ROOM)


def log_lines(number: int, *, start: int = 0) -> None:
    logger = logging.getLogger("trioproxy.test")
    for each in range(start, start + number):
        logger.info("%d %s", each, LINE)


def log_line_that_is_kept(log: LogWriter, *, number: int) -> None:
    """Log a line until it is not dropped: what has been read makes room only as soon as its writer
    has come back from the write."""
    dropped = -1
    while dropped < log.dropped:
        dropped = log.dropped
        log_lines(1, start=number)


class Reader:
    """What comes out of a pipe: the numbers of the lines, and how many were told to be missing."""

    def __init__(self, fd: int) -> None:
        self._file = os.fdopen(fd, closefd=False)
        self.numbers: list[int] = []
        self.missing = 0

    def read(self, number: int) -> None:
        """Read until so many lines have come in all."""
        while len(self.numbers) < number:
            line = json.loads(self._file.readline())
            if line["event"] == "log lines dropped":
                self.missing += line["lines"]
            else:
                self.numbers.append(int(line["event"].split()[0]))


def writers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "log writer"]


def test_a_pipe_that_nobody_reads_stops_nobody_and_what_is_lost_is_told(
    pipe: tuple[int, int],
) -> None:
    reading, writing = pipe
    with os.fdopen(writing, "w", closefd=False) as stream, open_log("json", stream) as log:
        log_lines(1000)
        dropped = log.dropped
        reader = Reader(reading)
        kept = 1000 - dropped
        reader.read(kept)
        for number in (1, 2):  # behind the first it is told at the latest
            log_line_that_is_kept(log, number=1000)
            reader.read(kept + number)

    assert 1000 - 2 * ROOM // len(LINE) <= dropped < 1000
    assert reader.numbers == sorted(reader.numbers)
    assert reader.missing == log.dropped


def test_who_does_not_read_does_not_hold_up_the_end(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.1)
    reading, writing = pipe
    with os.fdopen(writing, "w", closefd=False) as stream:
        before = time.monotonic()
        with open_log("json", stream) as log:
            log_lines(150)
        seconds = time.monotonic() - before

    assert seconds >= 0.1
    [stuck] = writers()
    assert stuck.daemon
    os.close(reading)  # which frees it
    stuck.join(5)
    assert (writers(), log.dropped > 0) == ([], True)


def test_what_waits_at_the_end_is_written(tmp_path: Path) -> None:
    file = tmp_path / "log"
    with file.open("w") as stream, open_log("json", stream) as log:
        log_lines(100)

    assert (file.read_text().count("\n"), log.dropped) == (100, 0)


def test_a_reader_that_has_gone_is_lines_that_are_dropped(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.close(reading)
    with os.fdopen(writing, "w", closefd=False) as stream, open_log("json", stream) as log:
        log_lines(3)

    assert log.dropped == 3


def test_a_pipe_that_does_not_block_is_waited_for(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.set_blocking(writing, False)
    with os.fdopen(writing, "w", closefd=False) as stream, open_log("json", stream) as log:
        log_lines(150)
        Reader(reading).read(150)

    assert log.dropped == 0


def test_warnings_go_on_as_bare_text_where_requests_are_not_logged(tmp_path: Path) -> None:
    file = tmp_path / "log"
    with file.open("w") as stream, open_log("off", stream):
        logging.getLogger("trioproxy.web").warning("%s was cut", "/v1")
        log_lines(1)

    assert file.read_text() == "/v1 was cut\n"
