"""The request log: what is in each line, in both forms, and what is never in it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.telemetry.scenes import open_scene, token
from trioproxy.telemetry import GenerationLog, LogFormat, log_request, open_log


class Log:
    """A log in a file. ``lines`` may be read once it is closed."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self._path = path
        self._stack = stack

    def open(self, log_format: LogFormat, *, on_terminal: bool = False) -> None:
        stream = self._stack.enter_context(self._path.open("w"))
        stream.isatty = lambda: on_terminal  # type: ignore[method-assign]
        self._stack.enter_context(open_log(log_format, stream))

    @property
    def text(self) -> str:
        """All that was written."""
        self._stack.close()
        return self._path.read_text()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The same, of JSON."""
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with ExitStack() as stack:
        yield Log(tmp_path / "log", stack)


def log_one(**facts: Any) -> None:
    usual = {
        "method": "POST",
        "path": "/v1/completions",
        "client": "203.0.113.9",
        "status": 200,
        "tenant": "~0123456789abcdef",
        "generation": "gen_1",
        "seconds": 1.23456789,
    }
    log_request(**(usual | facts))


def test_a_request_is_a_line_of_json(log: Log) -> None:
    log.open("json")
    log_one()

    [line] = log.lines
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "request",
        "level": "info",
        "method": "POST",
        "path": "/v1/completions",
        "client": "203.0.113.9",
        "status": 200,
        "tenant": "~0123456789ab",
        "generation": "gen_1",
        "duration": 1.234568,
    }


async def test_a_generations_end_is_a_line(log: Log, autojump_clock: MockClock) -> None:
    log.open("json")
    async with open_scene(listeners=[GenerationLog()]) as scene:
        with scene.join() as subscriber:
            await trio.sleep(0.5)
            scene.arrive(token("a"), token("b"))
            scene.source.complete()
            async for _ in subscriber:
                pass
        generation = subscriber.generation

    [line] = log.lines
    assert line.pop("timestamp")
    assert line == {
        "event": "generation",
        "level": "info",
        "generation": generation.id,
        "tenant": "",
        "path": "/v1/completions",
        "model": "tiny",
        "upstream": None,
        "outcome": "completed",
        "reason": None,
        "subscribers": 1,
        "ttft": 0.5,
        "tokens": 2,
        "bytes": generation.transcript.position,
        "duration": 0.5,
    }


@pytest.mark.parametrize(
    ("log_format", "on_terminal", "is_json"),
    [
        ("json", False, True),
        ("json", True, True),
        ("text", False, False),
        ("auto", False, True),
        ("auto", True, False),
    ],
)
def test_the_form_is_that_which_was_asked_for(
    log: Log, log_format: LogFormat, on_terminal: bool, is_json: bool
) -> None:
    log.open(log_format, on_terminal=on_terminal)
    log_one(generation=None)

    text = log.text
    assert text.startswith("{") == is_json
    assert "/v1/completions" in text
    assert ("generation" in text) == is_json  # what is not there is not shown to people


def test_off_is_silent(log: Log) -> None:
    log.open("off")
    log_one()

    assert log.text == ""


def test_a_crash_is_one_line_with_its_traceback(log: Log) -> None:
    log.open("json")
    try:
        raise ZeroDivisionError("the prompt")
    except ZeroDivisionError as error:
        logging.getLogger("trioproxy.web").error("a request crashed", exc_info=error)

    [line] = log.lines
    assert (line["event"], line["level"]) == ("a request crashed", "error")
    assert "ZeroDivisionError" in line["exception"]


def test_others_are_not_made_talkative(log: Log) -> None:
    log.open("json")
    logging.getLogger("httpx").info("HTTP Request: ...")

    assert log.text == ""


def test_no_value_breaks_a_line(log: Log) -> None:
    log.open("json")
    log_one(path='/v1/"\n\r\x00\u2028', generation="\ud800")

    assert log.text.count("\n") == 1
    assert len(log.lines) == 1


def test_a_crash_for_people_has_its_traceback_without_the_variables(log: Log) -> None:
    log.open("text")
    key = "sk-5ecret"
    try:
        raise ZeroDivisionError(f"no {len(key)}th \x1b[31mprompt")
    except ZeroDivisionError as error:
        logging.getLogger("trioproxy.web").error("a request crashed", exc_info=error)

    assert "\nZeroDivisionError: no 9th \\x1b[31mprompt\n" in log.text
    assert key not in log.text
