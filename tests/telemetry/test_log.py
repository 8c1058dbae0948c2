"""The request log: what is in each line, in both forms, and what is never in it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.telemetry.scenes import open_scene, token
from trioproxy.telemetry import GenerationLog, LogFormat, configure_logging, log_request


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("trioproxy")
    before = (list(root.handlers), root.level, ours.level)
    yield
    root.handlers[:], root.level, ours.level = before
    root.setLevel(before[1])  # which forgets what was cached of levels
    ours.setLevel(before[2])


def configured(log_format: LogFormat) -> io.StringIO:
    stream = io.StringIO()
    configure_logging(log_format, stream)
    return stream


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


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


def test_a_request_is_a_line_of_json() -> None:
    stream = configured("json")
    log_one()

    [line] = lines_of(stream)
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


async def test_a_generations_end_is_a_line(autojump_clock: MockClock) -> None:
    stream = configured("json")
    async with open_scene(listeners=[GenerationLog()]) as scene:
        with scene.join() as subscriber:
            await trio.sleep(0.5)
            scene.arrive(token("a"), token("b"))
            scene.source.complete()
            async for _ in subscriber:
                pass
        generation = subscriber.generation

    [line] = lines_of(stream)
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
    ("log_format", "stream", "is_json"),
    [
        ("json", io.StringIO, True),
        ("json", Terminal, True),
        ("text", io.StringIO, False),
        ("auto", io.StringIO, True),
        ("auto", Terminal, False),
    ],
)
def test_the_form_is_that_which_was_asked_for(
    log_format: LogFormat, stream: type[io.StringIO], is_json: bool
) -> None:
    written = stream()
    configure_logging(log_format, written)
    log_one(generation=None)

    text = written.getvalue()
    assert text.startswith("{") == is_json
    assert "/v1/completions" in text
    assert ("generation" in text) == is_json  # what is not there is not shown to people


def test_off_is_silent() -> None:
    stream = configured("off")
    log_one()

    assert stream.getvalue() == ""


def test_a_crash_is_one_line_with_its_traceback() -> None:
    stream = configured("json")
    try:
        raise ZeroDivisionError("the prompt")
    except ZeroDivisionError as error:
        logging.getLogger("trioproxy.web").error("a request crashed", exc_info=error)

    [line] = lines_of(stream)
    assert (line["event"], line["level"]) == ("a request crashed", "error")
    assert "ZeroDivisionError" in line["exception"]


def test_others_are_not_made_talkative() -> None:
    stream = configured("json")
    logging.getLogger("httpx").info("HTTP Request: ...")

    assert stream.getvalue() == ""


def test_no_value_breaks_a_line() -> None:
    stream = configured("json")
    log_one(path='/v1/"\n\r\x00\u2028', generation="\ud800")

    assert stream.getvalue().count("\n") == 1
    assert len(lines_of(stream)) == 1


def test_a_crash_for_people_has_its_traceback_without_the_variables() -> None:
    stream = configured("text")
    key = "sk-5ecret"
    try:
        raise ZeroDivisionError(f"no {len(key)}th \x1b[31mprompt")
    except ZeroDivisionError as error:
        logging.getLogger("trioproxy.web").error("a request crashed", exc_info=error)

    written = stream.getvalue()
    assert "\nZeroDivisionError: no 9th \\x1b[31mprompt\n" in written
    assert key not in written
