"""Sequences of events held against those that should have come."""

import pytest

from benchmarks.answers import DONE, Event
from benchmarks.storm.verification import Deviation, compare, verify, worst_gap
from trioproxy.simulator import generate_text

PROMPT = "a storm"
TOKENS = 6
TEXTS = ["", *generate_text(PROMPT, TOKENS), "", DONE]


def with_ids(texts: list[str]) -> list[Event]:
    return [Event(at, f"gen_a:{at}", text) for at, text in enumerate(texts, 1)]


def without_ids(texts: list[str]) -> list[Event]:
    return [Event(at, None, text) for at, text in enumerate(texts, 1)]


@pytest.mark.parametrize(
    ("seen", "deviation"),
    [
        ("abcdef", Deviation()),
        ("abdef", Deviation(lost=1)),
        ("abc", Deviation(lost=3)),
        ("", Deviation(lost=6)),
        ("abccdef", Deviation(doubled=1)),
        ("abcabcdef", Deviation(doubled=3)),
        ("abdcef", Deviation(reordered=1)),
        ("fabcde", Deviation(reordered=1)),
        ("abcxdef", Deviation(foreign=1)),
        ("abXdef", Deviation(lost=1, foreign=1)),
        ("bbdcef", Deviation(lost=1, doubled=1, reordered=1)),
    ],
)
def test_what_is_not_in_its_place_is_counted(seen: str, deviation: Deviation) -> None:
    assert compare("abcdef", seen) == deviation


def test_a_lost_one_of_two_alike_is_one_lost() -> None:
    assert compare("abab", "aba") == Deviation(lost=1)


def test_words_that_are_frequent_in_a_long_text_are_aligned_too() -> None:
    text = generate_text(PROMPT, 1000)

    assert compare(text, [*text[:500], *text[510:]]) == Deviation(lost=10)


@pytest.mark.parametrize("dress", [with_ids, without_ids])
def test_what_the_engine_sent_is_verified(dress) -> None:
    assert verify(dress(TEXTS), PROMPT, TOKENS) == Deviation()


def test_events_without_text_are_free_where_there_are_no_ids() -> None:
    assert verify(without_ids([text for text in TEXTS if text]), PROMPT, TOKENS) == Deviation()


def test_events_without_text_are_due_where_there_are_ids() -> None:
    events = [event for event in with_ids(TEXTS) if event.text]

    assert verify(events, PROMPT, TOKENS) == Deviation(lost=2)


def test_an_event_that_came_twice_is_seen_by_its_id_or_its_text() -> None:
    for events in (with_ids(TEXTS), without_ids(TEXTS)):
        assert verify([*events[:3], *events[2:]], PROMPT, TOKENS) == Deviation(doubled=1)


def test_a_right_text_under_a_wrong_id_is_foreign() -> None:
    events = with_ids(TEXTS)
    events[3] = events[3]._replace(id="gen_a:99")

    assert verify(events, PROMPT, TOKENS) == Deviation(lost=1, foreign=1)


def test_the_text_of_another_prompt_is_not_verified() -> None:
    assert verify(with_ids(TEXTS), "another prompt", TOKENS)


def test_an_answer_without_its_end_has_lost_it() -> None:
    assert verify(with_ids(TEXTS)[:-1], PROMPT, TOKENS) == Deviation(lost=1)


def test_deviations_add_up() -> None:
    total = Deviation(lost=1, doubled=2) + Deviation(doubled=1, reordered=3, foreign=4)

    assert total == Deviation(lost=1, doubled=3, reordered=3, foreign=4)


@pytest.mark.parametrize(
    ("arrivals", "seconds"), [([], 0), ([5], 0), ([0, 10**9, 3 * 10**9, 3 * 10**9], 2.0)]
)
def test_the_worst_gap_is_between_two_arrivals(arrivals: list[int], seconds: float) -> None:
    assert worst_gap([Event(at, None, "a") for at in arrivals]) == seconds
