"""The table of `top`: what is told becomes rows, in their order."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from trioproxy.top import Board, render
from trioproxy.top.board import ENDED_ROWS_SECONDS
from trioproxy.top.display import sparkline
from trioproxy.wire import Message

NOW = 1_000_000.0


def row(number: int, **values: Any) -> dict[str, Any]:
    usual = {
        "id": f"gen_{number:032x}",
        "state": "running",
        "outcome": None,
        "path": "/v1/chat/completions",
        "model": "tiny",
        "subscribers": 2,
        "usage": {"prompt_tokens": None, "completion_tokens": 7, "estimated": True},
        "ttft_seconds": 0.0512,
        "tokens_per_second": 49.96,
        "recent_gaps": [0.01, 0.02],
        "created_at": NOW - number,
        "ended_at": None,
    }
    return usual | values


ENDED = {"state": "ended", "outcome": {"kind": "failed", "reason": "timeout"}, "ended_at": NOW}


def event(name: bytes, value: object) -> Message:
    return Message(name, json.dumps(value).encode())


def text_of(board: Board, *, rows: int = 10) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render(board, url="http://proxy", state="live", rows=rows))
    return console.export_text()


def test_those_that_run_come_first_and_the_newest_of_them_at_the_top() -> None:
    board = Board()
    for number, values in ((3, {}), (1, ENDED), (2, {}), (4, ENDED)):
        board.take(event(b"generation", row(number, **values)))

    assert [int(each.id[4:], 16) for each in board.in_order(NOW)] == [2, 3, 1, 4]


def test_a_later_word_on_a_generation_takes_the_place_of_an_earlier() -> None:
    board = Board()
    board.list(json.dumps({"object": "list", "data": [row(1), row(2)]}).encode())
    board.take(event(b"generation", row(1, **ENDED)))

    assert [each.state for each in board.in_order(NOW)] == ["running", "ended"]


def test_what_ended_long_ago_is_dropped() -> None:
    board = Board()
    board.take(event(b"generation", row(1, **ENDED)))

    assert len(board.in_order(NOW + ENDED_ROWS_SECONDS)) == 1
    assert len(board.in_order(NOW + ENDED_ROWS_SECONDS + 1)) == 0


def test_other_events_are_passed_over() -> None:
    board = Board()
    board.take(event(b"gap", {"first": 1, "last": 2}))
    board.take(Message(None, b"hello"))

    assert not board.rows


def test_an_event_that_cannot_be_read_is_told() -> None:
    with pytest.raises(ValueError, match="truncated"):
        Board().take(Message(b"generation", b"{"))


def test_the_table_has_what_matters() -> None:
    board = Board()
    board.take(event(b"totals", {"upstream_calls": 1, "saved_calls": 3}))
    board.take(event(b"generation", row(1)))
    board.take(event(b"generation", row(2, **ENDED, model=None, ttft_seconds=None)))

    text = text_of(board)
    assert "1 running, 2 readers, 50 tokens/s, 1 upstream calls, 3 saved by sharing" in text
    assert "tiny" in text
    assert "51" in text
    assert "50.0" in text


def test_rows_that_do_not_fit_are_counted() -> None:
    board = Board()
    for number in range(5):
        board.take(event(b"generation", row(number)))

    assert "… 3 more" in text_of(board, rows=2)


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [([], ""), ([0.0], ""), ([1.0], "▅"), ([1.0, 1.0, 0.0, 9.0], "▅▅▁█"), ([1.0] * 40, "▅" * 16)],
)
def test_a_sparkline_has_the_median_at_half_its_height(gaps: list[float], expected: str) -> None:
    assert sparkline(gaps) == expected


def test_nodes_are_shown_where_there_are_several() -> None:
    board = Board()
    board.take(event(b"generation", row(1)))
    assert "node" not in text_of(board)

    board.take(event(b"generation", row(2, id=f"gen_{'0' * 32}_{'ab' * 8}", node="cd" * 8)))

    assert "abababab cdcdcdcd running" in text_of(board)


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        (["ef" * 8, "01" * 8], "no answer of efefefef, 01010101"),
        (None, "the other nodes cannot be asked"),
        ([], None),
    ],
)
def test_who_did_not_answer_is_told(missing: list[str] | None, told: str | None) -> None:
    board = Board()
    board.take(event(b"totals", {"upstream_calls": 0, "saved_calls": 0, "missing": missing}))

    text = text_of(board)

    assert board.is_whole == (told is None)
    assert told in text if told is not None else "nodes" not in text
