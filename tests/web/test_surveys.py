"""What the answers of several nodes make together, and questions that nobody should ask."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from trioproxy.fanout import open_hub
from trioproxy.web.surveys import Listing, Told, answer, overview_of


def told(name: str, *, readers: int = 0, **values: Any) -> Told:
    usual = {
        "id": name,
        "outcome": None,
        "subscribers": readers,
        "tokens_per_second": 10.0,
        "created_at": 1.0,
        "events": 5,
    }
    is_replica = values.pop("is_replica", False)
    return Told(usual | values, is_replica, not is_replica, joined=readers)


def listing(*generations: Told, has_more: bool = False) -> bytes:
    return msgspec.msgpack.encode(Listing(generations, has_more))


def test_a_replica_adds_its_readers_to_the_original_and_nothing_else() -> None:
    overview = overview_of(
        {
            "one": listing(told("g", readers=2, is_replica=True, events=3, created_at=9.0)),
            "two": listing(told("g", readers=1)),
            "three": listing(told("g", readers=3, is_replica=True)),
        },
        [],
    )

    (row,) = overview.rows
    assert (row["node"], row["subscribers"], row["events"]) == ("two", 6, 5)
    assert overview.totals == {
        "running": 1,
        "subscribers": 6,
        "tokens_per_second": 10.0,
        "upstream_calls": 1,
        "saved_calls": 5,
        "missing": [],
    }


def test_a_replica_stands_for_an_original_that_is_missing() -> None:
    overview = overview_of({"one": listing(told("g", readers=2, is_replica=True))}, ["two"])

    (row,) = overview.rows
    assert (row["node"], row["subscribers"]) == ("one", 2)
    assert (overview.nodes, overview.missing) == (["one"], ["two"])
    assert overview.totals["upstream_calls"] == 0


def test_what_runs_comes_first_and_the_oldest_of_it() -> None:
    ended = {"outcome": {"kind": "completed", "reason": None}, "tokens_per_second": None}
    overview = overview_of(
        {
            "one": listing(told("d", **ended, created_at=4.0), told("b", created_at=2.0)),
            "two": listing(told("c", **ended, created_at=3.0), told("a", created_at=1.0)),
        },
        [],
    )

    assert [row["id"] for row in overview.rows] == ["a", "b", "c", "d"]
    assert overview.totals["running"] == 2


@pytest.mark.parametrize(
    "other", [b"\xc1 of another age", listing(Told({"id": "h"}, False, True, 1))]
)
@pytest.mark.parametrize(("missing", "expected"), [(["x"], ["x", "two"]), (None, None)])
def test_an_answer_that_cannot_be_read_is_none(
    missing: list[str] | None, expected: list[str] | None, other: bytes
) -> None:
    overview = overview_of({"one": listing(told("g")), "two": other}, missing)

    assert [row["id"] for row in overview.rows] == ["g"]
    assert (overview.nodes, overview.missing) == (["one"], expected)


def test_who_has_more_than_it_tells_is_named() -> None:
    overview = overview_of({"one": listing(has_more=True), "two": listing()}, [])

    assert overview.truncated == ["one"]


@pytest.mark.parametrize(
    "question", [b"", b"\xc1", b"[]", msgspec.msgpack.encode(["prompts", "tenant", True, ""])]
)
async def test_what_is_no_question_is_refused_as_the_node_expects(question: bytes) -> None:
    async with open_hub() as hub:
        with pytest.raises(ValueError, match=r"\S"):
            answer(hub, question)
