"""Answers that are kept: which, for how long, and how they are read again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.support.source import ScriptedSource
from trioproxy.fanout import COMPLETED, Arrival, Source, failed
from trioproxy.gateway import Answers, KeptAnswer
from trioproxy.gateway.answers import ANSWER_BYTES, EVENT_BYTES
from trioproxy.wire import OPENAI_COMPLETIONS, Tally

TTL = 60.0
TOKEN = b'{"choices":[{"text":"a"}]}'


def answer_of(size: int) -> KeptAnswer:
    return KeptAnswer(None, [Arrival(None, b"", COMPLETED)], size)


async def read(source: Source) -> list[Sequence[Arrival]]:
    async with source as feed:
        return [arrivals async for arrivals in feed]


def playing(*arrivals: Arrival) -> ScriptedSource:
    source = ScriptedSource()
    for arrival in arrivals:
        source.arrive(arrival)
    source.end()
    return source


async def test_what_completes_is_kept_and_read_again_at_once(autojump_clock: MockClock) -> None:
    answers = Answers(TTL, 10_000)
    told = [Arrival(None, TOKEN), Arrival(b"n", TOKEN), Arrival(None, b"[DONE]", COMPLETED)]
    await read(answers.keeping("k", playing(*told, Arrival(None, b"more"))))

    kept = answers.find("k")
    assert kept is not None
    tally = Tally(OPENAI_COMPLETIONS)
    assert await read(answers.replay(kept, tally, float("inf"))) == [tuple(told)]

    assert (answers.hits, len(answers), tally.text_events) == (1, 1, 2)
    size = sum(len(each.data) + EVENT_BYTES for each in told)
    assert answers.held_bytes == ANSWER_BYTES + len(b"n") + size
    assert trio.current_time() == 0


async def test_it_is_read_again_at_the_pace_that_is_asked_for(autojump_clock: MockClock) -> None:
    answers, tally = Answers(TTL, 10_000), Tally(OPENAI_COMPLETIONS)
    kept = KeptAnswer("head", [Arrival(None, b"%d" % each) for each in range(5)], 0)
    times: list[float] = []

    async with answers.replay(kept, tally, 10) as feed:
        assert feed.head == "head"
        async for arrivals in feed:
            times += [trio.current_time()] * len(arrivals)
            if len(times) == 2:
                await trio.sleep(0.15)  # who takes it late gets what was due meanwhile

    assert times == pytest.approx([0, 0.1, 0.25, 0.3, 0.4])


@pytest.mark.parametrize(
    "last", [Arrival(None, b"x"), Arrival(None, b"no", failed("upstream_error", told=True))]
)
async def test_what_does_not_complete_is_not_kept(last: Arrival) -> None:
    answers = Answers(TTL, 10_000)

    await read(answers.keeping("k", playing(Arrival(None, b"a"), last)))

    assert answers.find("k") is None


async def test_what_is_left_before_its_end_is_not_kept() -> None:
    answers = Answers(TTL, 10_000)
    source = playing(Arrival(None, b"a"), Arrival(None, b"b", COMPLETED))

    async with answers.keeping("k", source) as feed:
        await anext(aiter(feed))

    assert answers.find("k") is None


async def test_it_is_kept_for_its_time(autojump_clock: MockClock) -> None:
    answers = Answers(TTL, 100)
    answers.keep("k", answer_of(10))

    await trio.sleep(TTL - 1)
    assert answers.find("k") is not None
    await trio.sleep(1)
    assert answers.find("k") is None
    assert (len(answers), answers.held_bytes) == (0, 0)


async def test_where_nothing_is_to_be_kept_a_source_is_what_it_was() -> None:
    source = ScriptedSource()

    assert Answers(0, 100).keeping("k", source) is source


async def test_the_one_that_was_asked_for_least_recently_goes_first() -> None:
    answers = Answers(TTL, 100)
    for key in "abc":
        answers.keep(key, answer_of(30))
    answers.find("a")

    answers.keep("d", answer_of(30))

    assert [key for key in "abcd" if answers.find(key)] == ["a", "c", "d"]
    answers.configure(TTL, 30)
    assert [key for key in "abcd" if answers.find(key)] == ["d"]
    answers.configure(0, 30)
    answers.keep("e", answer_of(1))
    assert (len(answers), answers.held_bytes) == (0, 0)


async def test_an_answer_that_is_too_large_is_not_remembered() -> None:
    answers = Answers(TTL, ANSWER_BYTES + 1_000)
    told = [Arrival(None, 900 * b"x"), Arrival(None, b"x"), Arrival(None, b"", COMPLETED)]

    read_again = await read(answers.keeping("k", playing(*told)))

    assert [each for some in read_again for each in some] == told
    assert answers.find("k") is None


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 60))))
def test_no_more_is_held_than_may_be(kept: list[tuple[str, int]]) -> None:
    async def keep() -> None:
        answers = Answers(TTL, 100)
        sizes: dict[str, int] = {}
        for key, size in kept:
            answers.keep(key, answer_of(size))
            sizes[key] = size
            held = {key: size for key, size in sizes.items() if answers.find(key)}
            assert answers.held_bytes == sum(held.values()) <= 100
            assert key in held

    trio.run(keep)
