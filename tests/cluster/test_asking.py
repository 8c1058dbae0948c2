"""What nodes ask each other. On each broker."""

from __future__ import annotations

from tests.cluster.brokers import LONG, Shared
from trioproxy.cluster import MAIL_START, Broker, Letter, Ref, Terms
from trioproxy.cluster.broker import SURVEY_SECONDS

SURVEY = Ref("survey", "s1")


async def living(shared: Shared, *nodes: str, terms: Terms = LONG) -> list[Broker]:
    ports = [await shared.port(node, terms) for node in nodes]
    for port in ports:
        await port.ping()
    return ports


async def letters(at: Broker) -> list[Letter]:
    return list((await at.read({}, MAIL_START, wait=0)).letters)


async def test_a_question_goes_to_all_others_that_live(shared: Shared) -> None:
    one, two, three = await living(shared, "one", "two", "three")
    silent = await shared.port("silent")

    asked = await one.ask(SURVEY, b"how\0are you")

    assert sorted(asked) == ["three", "two"]
    for other in (two, three):
        assert await letters(other) == [Letter("ask", SURVEY, "one")]
        assert await other.question(SURVEY) == b"how\0are you"
    assert await letters(one) == await letters(silent) == []


async def test_a_question_can_be_put_to_one(shared: Shared) -> None:
    one, two, three = await living(shared, "one", "two", "three")

    assert await one.ask(SURVEY, b"question", of="three") == ["three"]
    assert await one.ask(SURVEY, b"question", of="nobody") == []

    assert await letters(two) == []
    assert await letters(three) == [Letter("ask", SURVEY, "one")]


async def test_answers_are_told_and_heard(shared: Shared) -> None:
    one, two, three = await living(shared, "one", "two", "three")
    await one.ask(SURVEY, b"question")
    assert await one.answers(SURVEY) == {}

    await two.answer(SURVEY, b"\xff of two", to="one")
    await three.answer(SURVEY, b"", to="one")
    await two.answer(SURVEY, b"\xff of two", to="one")

    assert await one.answers(SURVEY) == {"two": b"\xff of two", "three": b""}
    told = [Letter("answered", SURVEY, node) for node in ("two", "three", "two")]
    assert await letters(one) == told


async def test_who_is_not_heard_of_for_a_lease_is_not_asked(shared: Shared) -> None:
    one, two = await living(shared, "one", "two", terms=Terms(lease=0.2))
    await shared.pass_time(0.3)
    await two.ping()
    await one.ping()

    assert await one.ask(SURVEY, b"question") == ["two"]
    await shared.pass_time(0.3)
    assert await one.ask(SURVEY, b"question") == []


async def test_who_has_departed_is_not_asked(shared: Shared) -> None:
    one, two, _ = await living(shared, "one", "two", "three")
    await two.depart()
    await two.depart()

    assert await one.ask(SURVEY, b"question") == ["three"]
    await two.ping()
    assert sorted(await one.ask(SURVEY, b"question")) == ["three", "two"]


async def test_an_answer_that_comes_too_late_goes_nowhere(shared: Shared) -> None:
    one, two = await living(shared, "one", "two")

    await two.answer(SURVEY, b"answer", to="one")

    assert await two.question(SURVEY) is None
    assert await one.answers(SURVEY) == {}
    assert await letters(one) == []


async def test_all_of_it_runs_out(shared: Shared) -> None:
    one, two = await living(shared, "one", "two")
    await one.ask(SURVEY, b"question")
    await two.answer(SURVEY, b"answer", to="one")

    left = {
        key.partition("}:")[2]: seconds for key, seconds in (await shared.seconds_left()).items()
    }

    assert 0 < left["q:s1"] <= SURVEY_SECONDS
    assert 0 < left["nodes"] <= LONG.ttl


async def test_who_is_alone_asks_nobody(shared: Shared) -> None:
    (one,) = await living(shared, "one")

    assert await one.ask(SURVEY, b"question") == []
    assert await one.answers(SURVEY) == {}
