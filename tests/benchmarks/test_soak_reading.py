"""What a reader of the soak takes for right and for wrong."""

import json
from random import Random
from typing import Any

import pytest

from benchmarks.soak.questions import COMPLETED, TOLD, Question, draw_question
from benchmarks.soak.reading import Reading, Violation
from trioproxy.simulator import generate_text

ONE, TWO, THREE = generate_text("Hello", 3)
DONE = "[DONE]"
STOPPED = {"error": {"message": "stopped", "code": "cancelled"}}
BUSY = {"error": {"message": "busy", "code": None}}


def question(**fields: Any) -> Question:
    asked: dict[str, Any] = {"is_chat": False, "tokens": 3, "rate": 0.0, "ttft": 0.0}
    return Question(prompt="Hello", **asked | fields)


def chunk(text: str) -> dict[str, Any]:
    return {"choices": [{"text": text}]}


def delta(**fields: str) -> dict[str, Any]:
    return {"choices": [{"delta": fields}]}


def event(seq: int | None, payload: object, generation_id: str = "gen_1") -> bytes:
    data = payload if isinstance(payload, str) else json.dumps(payload)
    head = "" if seq is None else f"id: {generation_id}:{seq}\n"
    return f"{head}data: {data}\n\n".encode()


def dense(*payloads: object, first: int = 1) -> list[bytes]:
    return [event(seq, payload) for seq, payload in enumerate(payloads, first)]


WHOLE = dense(chunk(ONE), chunk(TWO), chunk(THREE), chunk(""), DONE)


def read(stream: bytes, asked: Question, cursor: int | None, step: int) -> Reading:
    reading = Reading(asked, "gen_1", cursor=cursor)
    for start in range(0, len(stream), step):
        reading.feed(stream[start : start + step])
    reading.close()
    return reading


@pytest.mark.parametrize("step", [1, 7, 1_000_000])
@pytest.mark.parametrize(
    ("asked", "cursor", "frames", "ending"),
    [
        (question(), 0, WHOLE, COMPLETED),
        (question(), 2, WHOLE[2:], COMPLETED),
        (question(), None, WHOLE[3:], COMPLETED),
        (question(), 0, [b":\n", *WHOLE[:2], b":\n", *WHOLE[2:]], COMPLETED),
        (
            question(is_chat=True),
            0,
            dense(
                delta(role="assistant", content=""),
                *(delta(content=text) for text in (ONE, TWO, THREE)),
                delta(),
                DONE,
            ),
            COMPLETED,
        ),
        (question(), 0, [*WHOLE[:1], event(None, STOPPED), event(None, DONE)], "cancelled"),
        (question(), None, [event(None, STOPPED), event(None, DONE)], "cancelled"),
        (
            question(fault="mid", tokens=5),
            0,
            [*WHOLE[:2], event(3, BUSY), event(None, DONE)],
            TOLD,
        ),
    ],
)
def test_a_stream_that_can_be_is_read_to_its_ending(
    asked: Question, cursor: int | None, frames: list[bytes], ending: str, step: int
) -> None:
    reading = read(b"".join(frames), asked, cursor, step)

    assert ending == reading.ending


@pytest.mark.parametrize(
    ("cursor", "frames", "violation"),
    [
        (0, [*WHOLE[:1], *WHOLE[2:]], "event 3 came after event 1"),
        (0, [*WHOLE[:2], *WHOLE[1:]], "event 2 came after event 2"),
        (0, WHOLE[1:], "event 2 came after event 0"),
        (2, WHOLE, "event 1 came after event 2"),
        (0, dense(chunk(ONE), chunk(THREE)), "event 2 says"),
        (0, [event(1, chunk(ONE), "gen_2")], "in the stream of gen_1"),
        (0, [event(None, chunk(ONE))], "without an id"),
        (0, WHOLE[:4], "the stream did not"),
        (0, [], "the stream did not"),
        (0, [*WHOLE[:2], event(3, DONE)], "for no reason"),
        (0, [*WHOLE[:4], event(None, DONE)], "for no reason"),
        (0, [*WHOLE, event(6, DONE)], "after the end"),
        (0, [*WHOLE, event(None, STOPPED)], "after the end"),
        (0, [*WHOLE[:1], event(None, STOPPED), *WHOLE[1:2]], "after the error"),
        (0, [event(None, STOPPED), event(None, STOPPED)], "a second error"),
        (0, [*WHOLE[:1], event(2, BUSY)], "the engine's error is event 2"),
        (0, [*WHOLE[:4], event(5, chunk("more"))], "event 5 of a stream of 4"),
        (0, [event(1, "{no JSON")], "no JSON"),
        (0, [b"id: gen_1:1\n\n"], "without data"),
        (0, [b"retry: 5\n\n"], "out of place"),
        (0, [b"\n"], "without data"),
    ],
)
def test_a_stream_that_cannot_be_is_a_violation(
    cursor: int | None, frames: list[bytes], violation: str
) -> None:
    with pytest.raises(Violation, match=violation):
        read(b"".join(frames), question(), cursor, 1_000_000)


@pytest.mark.parametrize(
    ("asked", "texts"),
    [
        (question(), (ONE, TWO, THREE, "")),
        (question(is_chat=True), ("", ONE, TWO, THREE, "")),
        (question(fault="cut", tokens=5), (ONE, TWO)),
        (question(fault="mid", tokens=6, is_chat=True), ("", ONE, TWO, THREE)),
    ],
)
def test_what_a_question_is_answered_follows_from_it(
    asked: Question, texts: tuple[str, ...]
) -> None:
    assert texts == asked.texts


def test_a_seed_draws_the_same_questions_each_time_and_they_are_of_all_kinds() -> None:
    drawn = [[draw_question(Random(seed), "p") for seed in range(500)] for _ in range(2)]

    assert drawn[0] == drawn[1]
    faults = {asked.fault for asked in drawn[0]}
    assert {None, "before", "mid", "truncate", "cut"} == faults
    assert {asked.is_chat for asked in drawn[0]} == {True, False}
    assert {400, 401, 429, 500, 503} <= {asked.status for asked in drawn[0]}
    assert all(asked.rate == 0 or asked.tokens / asked.rate <= 12 for asked in drawn[0])
