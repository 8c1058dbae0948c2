"""What must hold of every answer, whatever fell on the proxy while it was given."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Generator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

from tests.exhaustive.proxy_scenes_clients import COMPLETIONS, MODELS_PATH, STATUSES, Answer
from tests.exhaustive.proxy_scenes_engine import (
    DONE,
    LAST,
    MODELS,
    REFUSAL,
    TOLD_ERROR,
    WHOLE,
    data_of,
)
from tests.support.sse import SseEvent

BODIES = {COMPLETIONS: WHOLE, MODELS_PATH: MODELS}
"""What answers that are no streams say, by their paths."""


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(self.format(record))


@contextmanager
def nothing_crashes() -> Generator[None]:
    """No error is logged within the block: the proxy has met nothing that it did not foresee."""
    errors, logger = _Errors(), logging.getLogger()
    logger.addHandler(errors)
    try:
        yield
    finally:
        logger.removeHandler(errors)
    assert errors.told == []


def check_answer(answer: Answer, codes: Collection[str]) -> None:
    """Laws 5 and 10: what came is right as far as it goes, what is whole has its end, and no
    failure is told but one of ``codes``."""
    if answer.is_stream:
        check_stream(answer, codes)
    elif answer.head is not None and answer.head.status >= 400:
        check_refusal(answer, answer.head.status, codes)
    elif answer.head is not None:
        check_body(answer)


def check_stream(answer: Answer, codes: Collection[str]) -> None:
    """A dense run of the right events; then, unless somebody left, one end."""
    run = list(takewhile(lambda event: event.id or event.name, answer.events))
    seqs = [seq for event in run for seq in _seqs_of(event, answer.generation_id)]
    assert seqs == list(range(answer.after + 1, answer.after + 1 + len(seqs)))
    data = [event.data for event in answer.events]
    told = data[len(run) :]
    last = data[len(run) - 1] if run else None
    if last == DONE:
        assert told == []
    elif last == TOLD_ERROR:
        assert told in ([], [DONE])
    elif told:
        assert error_of(told[0])["code"] in codes
        assert told[1:] in ([], [DONE])
    if answer.ending == "whole":
        assert data[-1:] == [DONE]


def _seqs_of(event: SseEvent, generation_id: str | None) -> range:
    """The seqs that an event accounts for: its own, or those of a gap."""
    if event.name == "gap":
        gap: dict[str, int] = json.loads(event.data)
        return range(gap["first"], gap["last"] + 1)
    assert event.id is not None
    origin, _, number = event.id.rpartition(":")
    seq = int(number)
    assert origin == generation_id
    assert event.data in ([DONE] if seq > LAST else [data_of(seq), TOLD_ERROR])
    return range(seq, seq + 1)


def check_refusal(answer: Answer, status: int, codes: Collection[str]) -> None:
    """Typed, with the status that its code has; the upstream's own as it was."""
    if answer.ending != "whole":
        return
    error = error_of(answer.body)
    assert error["code"] in codes
    assert STATUSES[error["code"]] == status
    if error["code"] == "refused_by_the_engine":
        assert answer.body == REFUSAL


def check_body(answer: Answer) -> None:
    """A beginning of the right bytes, and all of them if it is whole."""
    if answer.path in BODIES:
        assert BODIES[answer.path].startswith(answer.body)
        assert answer.ending != "whole" or answer.body == BODIES[answer.path]
    elif answer.ending == "whole":
        told = json.loads(answer.body)
        assert told.get("object") == "generation" or told.get("status") == "ok"


def error_of(body: bytes) -> dict[str, Any]:
    """The error as OpenAI's clients read it: four fields, and a message that says something."""
    error: dict[str, Any] = json.loads(body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    return error
