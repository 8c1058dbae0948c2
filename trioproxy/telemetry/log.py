"""The request log: a line for each request that was answered, and for each generation's end.

It goes through :mod:`logging`, so that whoever builds on the proxy has it where the rest of their
log is; :func:`open_log` is for the command. Prompts and keys are never in it: a tenant is
told by its name, or by the beginning of a digest.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Literal, TextIO

import structlog

from trioproxy.telemetry.timing import Listener, Timing
from trioproxy.telemetry.writer import LogWriter

LogFormat = Literal["auto", "json", "text", "off"]

_log = logging.getLogger("trioproxy.requests")


def log_request(
    *,
    method: str,
    path: str,
    client: str | None,
    status: int | None,
    tenant: str,
    generation: str | None,
    seconds: float,
) -> None:
    """A request is over; ``status`` is None where its client left before the head, ``client``
    where it has no address."""
    if not _log.isEnabledFor(logging.INFO):
        return
    facts = {
        "method": method,
        "path": path,
        "client": client,
        "status": status,
        "tenant": _short(tenant),
        "generation": generation,
        "duration": round(seconds, 6),
    }
    _log.info("request", extra=facts)


class GenerationLog(Listener):
    """Logs how each generation ended; a replica of one that another node runs as such."""

    def ended(self, timing: Timing) -> None:
        if not _log.isEnabledFor(logging.INFO):
            return
        generation, outcome = timing.generation, timing.generation.outcome
        assert outcome is not None
        facts = {
            "generation": generation.id,
            "tenant": _short(generation.tenant),
            "path": timing.origin.path,
            "model": timing.origin.model,
            "upstream": timing.upstream,
            "outcome": outcome.kind,
            "reason": outcome.reason,
            "subscribers": timing.joins,
            "ttft": timing.ttft and round(timing.ttft, 6),
            "tokens": timing.output_tokens,
            "bytes": generation.transcript.position,
            "duration": round(timing.duration, 6),
        }
        _log.info("replica" if generation.is_replica else "generation", extra=facts)


@contextmanager
def open_log(log_format: LogFormat, stream: TextIO | None = None) -> Generator[LogWriter]:
    """Have all that is logged in the block written to the file behind ``stream`` (stdout): a JSON
    object on each line, or lines for people; ``"auto"`` is those on a terminal and JSON elsewhere.
    With ``"off"`` requests are not logged, and warnings go to stderr as bare text.

    Whoever logs never waits for that file. On exit what still waits is written, for a second or two
    at most.
    """
    is_off = log_format == "off"
    root, ours = logging.getLogger(), logging.getLogger("trioproxy")
    before = root.level, ours.level
    with ExitStack() as stack:
        # A process that was started with it closed has none.
        stream = stream or (sys.__stderr__ if is_off else sys.__stdout__) or _open_nothing(stack)
        writer = LogWriter(stream.fileno())
        stack.callback(writer.stop)
        if not is_off:
            is_for_people = log_format == "text" or (log_format == "auto" and stream.isatty())
            writer.setFormatter(_formatter(is_for_people=is_for_people, colors=stream.isatty()))
            ours.setLevel(logging.INFO)
        root.setLevel(logging.WARNING)
        root.addHandler(writer)
        try:
            yield writer
        finally:
            root.removeHandler(writer)
            root.setLevel(before[0])
            ours.setLevel(before[1])


def _open_nothing(stack: ExitStack) -> TextIO:
    return stack.enter_context(open(os.devnull, "w"))


def _formatter(*, is_for_people: bool, colors: bool) -> logging.Formatter:
    known: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor]
    if is_for_people:
        renderer = structlog.dev.ConsoleRenderer(
            colors=colors,
            # Its own shows the variables of each frame too, and there prompts and keys are.
            exception_formatter=_print_traceback,
        )
        last = [_without_nothing, _harmless, renderer]
    else:
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=known,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _without_message,
            *last,
        ],
    )


def _without_message(
    logger: object, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """What another handler's formatter has noted in the record: it is the event."""
    event.pop("message", None)
    return event


def _without_nothing(
    logger: object, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return {name: value for name, value in event.items() if value is not None}


def _harmless(
    logger: object, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """What clients and engines have said, so that it moves nothing on a terminal."""
    return {
        name: _printable(value) if isinstance(value, str) else value
        for name, value in event.items()
    }


def _print_traceback(output: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    lines = "".join(traceback.format_exception(*exc_info)).rstrip("\n").split("\n")
    output.write("\n" + "\n".join(map(_printable, lines)))


def _printable(text: str) -> str:
    """The text with escapes in place of what is not to be seen: control characters, line ends."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _short(tenant: str) -> str:
    """A tenant's name; of a digest, which begins with a ~, the beginning."""
    return tenant[:13] if tenant.startswith("~") else tenant
