"""Which upstream gets a call, and which the next one where that fails."""

from __future__ import annotations

import errno
import itertools
import os
import random
from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.exhaustive.tally import tally
from tests.support.reading import read_to_end
from tests.support.stepping import AtStep
from tests.upstream.calls import REQUEST
from tests.upstream.fleet import (
    FIRST_TOKEN,
    Fleet,
    Script,
    answers,
    answers_with_a_page,
    cuts,
    cuts_behind_its_head,
    cuts_behind_the_first_event,
    ends_before_the_first_event,
    in_turn,
    open_fleet,
    refuses,
    says_its_head_and_nothing,
    says_nothing,
)
from trioproxy.config import Gateway, RouteEntry, Settings, TargetEntry, UpstreamEntry
from trioproxy.fanout import SourceFailed, open_hub
from trioproxy.testing import Trial, cancel_at_every_checkpoint, fail_at_every_io
from trioproxy.testing.network import VirtualNetwork
from trioproxy.testing.upstream import UpstreamCall, sse
from trioproxy.upstream import (
    UnknownModel,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamRefused,
    UpstreamRequest,
    UpstreamSilent,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from trioproxy.upstream.router import LONGEST, SHORTEST

GOOD = answers(b"a", b"b")
WHOLE = [b"a", b"b", b"[DONE]"]

FAILURES: dict[str, list[Script] | None] = {
    "nobody listens": None,
    "408": [refuses(408)],
    "429": [refuses(429, ("retry-after", "60"))],
    "500": [refuses(500)],
    "503": [refuses(503)],
    "no head": [says_nothing],
    "no first event": [says_its_head_and_nothing],
    "an end before the first event": [ends_before_the_first_event],
    "cut before the head": [cuts],
    "cut behind the head": [cuts_behind_its_head],
    "no stream": [answers_with_a_page],
}


@pytest.mark.parametrize("bad", FAILURES.values(), ids=FAILURES.keys())
async def test_what_fails_before_the_first_event_goes_on_to_the_next(
    bad: list[Script] | None, autojump_clock: MockClock
) -> None:
    async with open_fleet({"bad": bad, "good": [GOOD]}) as fleet:
        assert await fleet.read() == WHOLE

        assert fleet.calls == (["good"] if bad is None else ["bad", "good"])
        standing = fleet.standing("bad")
        assert (standing.passed_on, standing.results.total()) == (1, 1)
        assert fleet.standing("good").results == {"answered": 1}
        assert fleet.roster.open_calls == 0
    assert trio.current_time() <= FIRST_TOKEN  # and without a pause


async def test_each_call_is_left_before_the_next_is_made(autojump_clock: MockClock) -> None:
    open_calls: list[int] = []

    async def look(call: UpstreamCall) -> None:
        open_calls.append(fleet.roster.open_calls)
        await GOOD(call)

    async with open_fleet({"bad": [says_its_head_and_nothing], "good": [look]}) as fleet:
        assert await fleet.read() == WHOLE

        await fleet.requests[0].wait_departure()
    assert open_calls == [1]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_what_another_would_refuse_too_is_not_asked_again(
    status: int, autojump_clock: MockClock
) -> None:
    async with open_fleet({"first": [refuses(status)], "second": [GOOD]}) as fleet:
        with pytest.raises(UpstreamRefused) as refusal:
            await fleet.read()

        assert (fleet.calls, refusal.value.status) == (["first"], status)
        assert fleet.standing("first").breaker.state == "closed"


async def test_behind_the_first_event_nothing_is_asked_again(autojump_clock: MockClock) -> None:
    async with open_fleet({"first": [cuts_behind_the_first_event], "second": [GOOD]}) as fleet:
        with pytest.raises(UpstreamBroken):
            await fleet.read()

        assert fleet.calls == ["first"]


async def test_a_generation_never_sees_that_a_call_was_made_again(
    autojump_clock: MockClock,
) -> None:
    scripts = {"bad": [says_its_head_and_nothing], "good": [GOOD]}
    async with open_fleet(scripts) as fleet, open_hub() as hub:
        with hub.join("key", fleet.source()) as subscriber:
            reading = await read_to_end(subscriber)
        head = subscriber.generation.head

    assert reading.data == WHOLE
    assert getattr(head, "upstream", None) == "good"


async def test_when_all_have_failed_all_are_asked_again_after_a_pause(
    autojump_clock: MockClock,
) -> None:
    random.seed(1)
    scripts = {"a": [refuses(500), refuses(502), GOOD], "b": [refuses(500)]}
    async with open_fleet(scripts, [in_turn("a", "b", retries=4)]) as fleet:
        assert await fleet.read() == WHOLE

        assert fleet.calls == ["a", "b", "a", "b", "a"]
        first, second = fleet.times[2] - fleet.times[1], fleet.times[4] - fleet.times[3]
        assert SHORTEST / 2 <= first <= SHORTEST
        assert SHORTEST <= second <= 2 * SHORTEST


async def test_the_last_failure_is_what_is_told(autojump_clock: MockClock) -> None:
    async with open_fleet({"a": [refuses(500)], "b": [refuses(503)]}) as fleet:
        with pytest.raises(UpstreamRefused) as refusal:
            await fleet.read()

        assert (fleet.calls, refusal.value.status) == (["a", "b", "a"], 500)
        assert refusal.value.body == b'{"error":"no"}'


async def test_an_upstream_is_left_alone_for_as_long_as_it_asks(autojump_clock: MockClock) -> None:
    async with open_fleet({"a": [refuses(429, ("retry-after", "3")), GOOD]}) as fleet:
        assert await fleet.read() == WHOLE

        assert fleet.times[1] - fleet.times[0] == 3


async def test_who_asks_to_be_left_alone_for_long_is_not_waited_for(
    autojump_clock: MockClock,
) -> None:
    seconds = str(int(LONGEST) + 1)
    async with open_fleet({"a": [refuses(429, ("retry-after", seconds))]}) as fleet:
        with pytest.raises(UpstreamRefused) as refusal:
            await fleet.read()

        assert (refusal.value.retry_after, trio.current_time()) == (LONGEST + 1, 0)


async def test_without_retries_there_is_one_call(autojump_clock: MockClock) -> None:
    routes = [in_turn("a", "b", retries=0)]
    async with open_fleet({"a": [refuses(500)], "b": [GOOD]}, routes) as fleet:
        with pytest.raises(UpstreamRefused):
            await fleet.read()

        assert fleet.calls == ["a"]


async def test_a_model_has_its_route_and_its_name_there(autojump_clock: MockClock) -> None:
    routes = [
        RouteEntry(model="fast", to=(TargetEntry(upstream="a", model="llama-3"),)),
        RouteEntry(model="gpt-*", to=(TargetEntry(upstream="b"),)),
    ]
    request = UpstreamRequest("POST", b"/v1/completions", [], b'{ "model": "fast", "n":1 }')
    async with open_fleet({"a": [GOOD], "b": [GOOD]}, routes) as fleet:
        await fleet.read("fast", request)
        await fleet.read("gpt-4o", REQUEST)
        with pytest.raises(UnknownModel, match="'claude'"):
            fleet.source("claude")
        with pytest.raises(UnknownModel, match="name a model"):
            fleet.source(None)

        assert fleet.calls == ["a", "b"]
        assert fleet.requests[0].body == b'{"model":"llama-3","n":1}'
        assert fleet.requests[1].body == REQUEST.body


async def test_calls_are_shared_out_by_weight(autojump_clock: MockClock) -> None:
    random.seed(2)
    targets = [TargetEntry(upstream=name, weight=w) for name, w in (("a", 3), ("b", 1), ("c", 0))]
    routes = [RouteEntry(model="*", to=tuple(targets))]
    async with open_fleet({"a": [GOOD], "b": [GOOD], "c": [GOOD]}, routes) as fleet:
        for _ in range(200):
            await fleet.read()

        assert 130 <= fleet.calls.count("a") <= 170
        assert fleet.calls.count("c") == 0


async def test_after_some_failures_an_upstream_is_left_alone_then_tried(
    autojump_clock: MockClock,
) -> None:
    scripts = {"bad": [refuses(502), refuses(502), refuses(502), GOOD], "good": [GOOD]}
    options = {"breaker_failures": 2, "breaker_seconds": 10.0}
    async with open_fleet(scripts, **options) as fleet:
        for _ in range(4):
            await fleet.read()
        assert fleet.calls == ["bad", "good", "bad", "good", "good", "good"]
        assert fleet.standing("bad").breaker.state == "open"

        await trio.sleep(10)
        assert fleet.standing("bad").breaker.state == "half-open"
        await fleet.read()  # which fails, and opens it again
        assert (fleet.calls[-2:], fleet.standing("bad").breaker.state) == (["bad", "good"], "open")

        await trio.sleep(10)
        await fleet.read()
        await fleet.read()
        assert fleet.calls[-2:] == ["bad", "bad"]
        assert fleet.standing("bad").breaker.state == "closed"


async def test_a_request_that_is_too_much_for_it_does_not_shut_it_for_others(
    autojump_clock: MockClock,
) -> None:
    async with open_fleet({"a": [refuses(500)], "b": [refuses(500)]}, breaker_failures=2) as fleet:
        for _ in range(5):
            with pytest.raises(UpstreamRefused):
                await fleet.read()

        assert fleet.standing("a").breaker.state == "closed"
        assert fleet.standing("b").breaker.state == "closed"


async def test_a_head_without_events_is_a_failure_though_no_other_call_follows(
    autojump_clock: MockClock,
) -> None:
    routes, options = [in_turn("a", retries=0)], {"breaker_failures": 1}
    async with open_fleet({"a": [says_its_head_and_nothing]}, routes, **options) as fleet:
        with pytest.raises(UpstreamSilent):
            await fleet.read()

        assert fleet.standing("a").breaker.state == "open"


@pytest.mark.parametrize(
    ("status", "state", "results"),
    [
        (200, "closed", {"answered": 2}),
        (404, "closed", {"answered": 2}),
        (500, "closed", {"refused": 2}),
        (503, "open", {"refused": 2}),
    ],
)
async def test_the_status_of_what_is_forwarded_counts_though_it_is_passed_through(
    status: int, state: str, results: dict[str, int], autojump_clock: MockClock
) -> None:
    request = UpstreamRequest("POST", b"/v1/embeddings", [], b"")
    routes, options = [in_turn("a", retries=0)], {"breaker_failures": 2}
    async with open_fleet({"a": [refuses(status)]}, routes, **options) as fleet:
        for _ in range(2):
            async with fleet.router.forward(None, request) as answer:
                assert answer.head.status == status

        standing = fleet.standing("a")
        assert (standing.breaker.state, standing.results) == (state, results)


async def test_one_call_at_a_time_finds_out_whether_it_is_well_again(
    autojump_clock: MockClock,
) -> None:
    scripts = {"bad": [refuses(502), says_nothing], "good": [GOOD]}
    options = {"breaker_failures": 1, "breaker_seconds": 1.0}
    async with open_fleet(scripts, **options) as fleet:
        await fleet.read()
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(fleet.read)

        assert fleet.calls.count("bad") == 2


async def test_one_that_finds_out_slowly_does_not_keep_the_others_out(
    autojump_clock: MockClock,
) -> None:
    scripts = {"bad": [refuses(502), says_nothing, GOOD]}
    options = {"breaker_failures": 1, "breaker_seconds": 1.0}
    async with open_fleet(scripts, [in_turn("bad", retries=0)], **options) as fleet:
        with pytest.raises(UpstreamRefused):
            await fleet.read()
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fleet.read)
            await trio.sleep(0.5)
            with pytest.raises(UpstreamUnavailable):
                await fleet.read()
            await trio.sleep(0.5)
            assert await fleet.read() == WHOLE
            nursery.cancel_scope.cancel()

        assert fleet.standing("bad").breaker.state == "closed"


async def test_who_leaves_that_found_out_slowly_lets_in_nobody_beside_who_finds_out_now(
    autojump_clock: MockClock,
) -> None:
    scripts = {"bad": [refuses(502), says_nothing]}
    options = {"breaker_failures": 1, "breaker_seconds": 1.0}
    async with open_fleet(scripts, [in_turn("bad", retries=0)], **options) as fleet:
        await fails(fleet)
        await trio.sleep(1)
        slow = trio.CancelScope()

        async def read_slowly() -> None:
            with slow:
                await fleet.read()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_slowly)
            await trio.sleep(1)
            nursery.start_soon(fleet.read)
            await wait_all_tasks_blocked()
            slow.cancel()
            await wait_all_tasks_blocked()
            with pytest.raises(UpstreamUnavailable):
                await fleet.read()
            nursery.cancel_scope.cancel()

        assert fleet.calls == ["bad", "bad", "bad"]


async def test_what_a_call_comes_to_that_was_made_long_ago_tells_nothing_of_now(
    autojump_clock: MockClock,
) -> None:
    async def slowly_refuses(call: UpstreamCall) -> None:
        await trio.sleep(3)
        await refuses(502)(call)

    scripts = {"bad": [slowly_refuses, refuses(502), GOOD]}
    options = {"breaker_failures": 1, "breaker_seconds": 1.0}
    async with open_fleet(scripts, [in_turn("bad", retries=0)], **options) as fleet:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, fleet)
            await wait_all_tasks_blocked()
            await fails(fleet)
            await trio.sleep(1)
            assert await fleet.read() == WHOLE

        assert fleet.standing("bad").breaker.state == "closed"


async def fails(fleet: Fleet) -> None:
    with pytest.raises(UpstreamRefused):
        await fleet.read()


async def test_a_call_whose_client_leaves_decides_nothing(autojump_clock: MockClock) -> None:
    scripts = {"bad": [refuses(502), says_nothing, GOOD], "good": [GOOD]}
    options = {"breaker_failures": 1, "breaker_seconds": 1.0}
    async with open_fleet(scripts, **options) as fleet:
        await fleet.read()
        await trio.sleep(1)
        with trio.move_on_after(0.5):
            await fleet.read()
        assert fleet.standing("bad").breaker.state == "half-open"

        await fleet.read()
        assert (fleet.calls[-1], fleet.standing("bad").breaker.state) == ("bad", "closed")


async def test_where_none_is_well_no_call_is_made(autojump_clock: MockClock) -> None:
    options = {"breaker_failures": 1, "breaker_seconds": 30.0}
    async with open_fleet({"a": [refuses(502)]}, [in_turn("a", retries=0)], **options) as fleet:
        with pytest.raises(UpstreamRefused):
            await fleet.read()
        await trio.sleep(10)
        with pytest.raises(UpstreamUnavailable) as unavailable:
            await fleet.read()

        assert (fleet.calls, unavailable.value.retry_after) == (["a"], 20)


async def test_an_upstream_that_says_it_is_ill_gets_no_calls(autojump_clock: MockClock) -> None:
    def health(call: UpstreamCall) -> bool:
        return call.target == b"/health"

    async def tell(call: UpstreamCall) -> None:
        await (refuses(503 if is_ill else 200) if health(call) else GOOD)(call)

    is_ill = False
    options = {"health": "/health", "health_interval": 1.0}
    async with open_fleet({"a": [tell], "b": [GOOD]}, **options) as fleet:
        await fleet.read()
        is_ill = True
        await trio.sleep(2.5)
        await fleet.read()
        is_ill = False
        await trio.sleep(1.5)
        await fleet.read()

        asked = zip(fleet.calls, fleet.requests, strict=True)
        assert [name for name, call in asked if not health(call)] == ["a", "b", "a"]


async def test_questions_take_no_calls_place(autojump_clock: MockClock) -> None:
    options = {"health": "/health", "health_interval": 1.0, "max_calls": 1, "max_queue": 0}

    async def tell(call: UpstreamCall) -> None:
        await (GOOD if call.target == b"/health" else says_nothing)(call)

    async with open_fleet({"a": [tell]}, **options) as fleet, trio.open_nursery() as nursery:
        nursery.start_soon(fleet.read)
        await trio.sleep(4)

        assert fleet.standing("a").is_up
        assert await fleet.roster.is_ready()
        nursery.cancel_scope.cancel()


async def test_who_waits_in_vain_for_a_place_blames_nobody(autojump_clock: MockClock) -> None:
    async def slowly(call: UpstreamCall) -> None:
        await call.start()
        await call.write(b"data: a\n\n")
        await trio.sleep(FIRST_TOKEN + 2)
        await call.finish(b"data: [DONE]\n\n")

    options = {"max_calls": 1, "breaker_failures": 1}
    async with open_fleet({"a": [slowly]}, [in_turn("a", retries=0)], **options) as fleet:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fleet.read)
            await wait_all_tasks_blocked()
            with pytest.raises(UpstreamBusy):
                await fleet.read()
            assert trio.current_time() == FIRST_TOKEN

        assert fleet.standing("a").breaker.state == "closed"
        assert fleet.calls == ["a"]


async def slowly_refuses(call: UpstreamCall) -> None:
    await trio.sleep(1)
    await refuses(503)(call)


async def test_who_waits_for_a_place_of_one_that_fails_meanwhile_goes_elsewhere(
    autojump_clock: MockClock,
) -> None:
    options = {"max_calls": 1, "breaker_failures": 2, "breaker_seconds": 60.0}
    routes = [in_turn("bad", "good", retries=1)]
    async with open_fleet({"bad": [slowly_refuses], "good": [GOOD]}, routes, **options) as fleet:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(fleet.read)

        assert (fleet.calls.count("bad"), fleet.calls.count("good")) == (2, 5)
        standing = fleet.standing("bad")
        assert standing.results == {"refused": 2, "unavailable": 3}
        assert (standing.passed_on, standing.breaker.state) == (5, "open")


async def test_who_waits_for_a_place_of_the_only_one_is_told_that_it_has_failed_meanwhile(
    autojump_clock: MockClock,
) -> None:
    options = {"max_calls": 1, "breaker_failures": 1, "breaker_seconds": 60.0}
    told: list[SourceFailed] = []

    async def read() -> None:
        with pytest.raises(SourceFailed) as failure:
            await fleet.read()
        told.append(failure.value)

    async with open_fleet({"bad": [slowly_refuses]}, [in_turn("bad")], **options) as fleet:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(read)

        assert fleet.calls == ["bad"]
        waited = [error for error in told if isinstance(error, UpstreamUnavailable)]
        assert [error.retry_after for error in waited] == [60, 60]
        assert trio.current_time() < 1 + LONGEST


async def test_who_was_silent_for_so_long_is_not_asked_again(autojump_clock: MockClock) -> None:
    async with open_fleet({"a": [says_nothing], "b": [refuses(503)]}) as fleet:
        with pytest.raises(UpstreamRefused):
            await fleet.read()
        assert fleet.calls == ["a", "b", "b"]
    async with open_fleet({"a": [says_nothing]}) as fleet:
        with pytest.raises(UpstreamSilent):
            await fleet.read()
        assert fleet.calls == ["a"]


async def test_a_refusal_of_what_was_forwarded_is_told_whole(autojump_clock: MockClock) -> None:
    request = UpstreamRequest("POST", b"/v1/files", [], b"")
    async with open_fleet({"a": [refuses(503, ("retry-after", "10"))]}) as fleet:
        with pytest.raises(UpstreamRefused) as refusal:
            async with fleet.router.forward(None, request):
                pass

        assert (refusal.value.body, fleet.calls) == (b'{"error":"no"}', ["a"])


async def test_what_names_no_model_is_forwarded_as_it_is(autojump_clock: MockClock) -> None:
    request = UpstreamRequest("POST", b"/v1/audio/transcriptions", [], b"--x\r\nno JSON")
    async with open_fleet({"a": [refuses(200)]}, [in_turn("a", a="other")]) as fleet:
        async with fleet.router.forward(None, request):
            pass
        assert fleet.requests[0].body == request.body


async def test_calls_beyond_the_queue_go_elsewhere(autojump_clock: MockClock) -> None:
    async def slowly(call: UpstreamCall) -> None:
        await trio.sleep(1)
        await GOOD(call)

    options = {"max_calls": 1, "max_queue": 1}
    async with open_fleet({"a": [slowly], "b": [slowly]}, **options) as fleet:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(fleet.read)
            await wait_all_tasks_blocked()
            with pytest.raises(UpstreamBusy):
                async with fleet.router.whole("m", REQUEST):
                    pass

        assert sorted(fleet.calls) == ["a", "a", "b", "b"]
        assert fleet.standing("a").breaker.state == "closed"


@pytest.mark.parametrize(
    ("method", "bad", "calls"),
    [
        ("POST", [refuses(500)], ["a"]),
        ("POST", [cuts], ["a"]),
        ("POST", [refuses(503)], ["a", "b"]),
        ("POST", None, ["b"]),
        ("GET", [refuses(500)], ["a", "b"]),
        ("GET", [cuts], ["a", "b"]),
        ("GET", [refuses(404)], ["a"]),
    ],
)
async def test_what_is_forwarded_is_asked_again_where_nothing_was_done(
    method: str, bad: list[Script] | None, calls: list[str], autojump_clock: MockClock
) -> None:
    request = UpstreamRequest(method, b"/v1/files", [], b"")
    async with open_fleet({"a": bad, "b": [refuses(200)]}) as fleet:
        try:
            async with fleet.router.forward(None, request) as answer:
                status = answer.head.status
        except (UpstreamBroken, UpstreamRefused):
            status = 0

        assert fleet.calls == calls
        assert (status == 200) == (calls[-1] == "b")


async def test_what_concerns_no_model_goes_where_the_first_route_leads(
    autojump_clock: MockClock,
) -> None:
    routes = [RouteEntry(model="x", to=(TargetEntry(upstream="b"),))]
    request = UpstreamRequest("GET", b"/v1/files", [], b"")
    async with open_fleet({"a": [GOOD], "b": [refuses(200)]}, routes) as fleet:
        async with fleet.router.forward(None, request):
            pass
        with pytest.raises(UnknownModel):
            fleet.router.forward("y", request)

        assert fleet.calls == ["b"]


def settings_of(*names: str, url: str = "http://127.0.0.1:8001", **others: str) -> Settings:
    entries = [UpstreamEntry(name=name, url=others.get(name, url)) for name in names]
    return Settings(gateway=Gateway(upstreams=tuple(entries)))


async def test_what_was_configured_before_stays_as_it_is(autojump_clock: MockClock) -> None:
    async with open_fleet({"a": [says_its_head_and_nothing]}, [in_turn("a", retries=0)]) as fleet:
        fleet.roster.configure(settings_of("a", "b"))
        a, b = fleet.roster.members
        fleet.roster.configure(settings_of("b", "a", b="http://127.0.0.1:9"))
        new_b, same_a = fleet.roster.members

        assert same_a is a
        assert new_b is not b


async def test_one_at_the_same_url_keeps_its_places_and_its_standing(
    autojump_clock: MockClock,
) -> None:
    options = {"max_calls": 1, "max_queue": 0}
    async with open_fleet({"a": [says_nothing]}, [in_turn("a", retries=0)], **options) as fleet:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fleet.read)
            await wait_all_tasks_blocked()
            standing = fleet.standing("a")
            entry = UpstreamEntry(name="a", url="http://127.0.0.1:8001", **options)
            fleet.roster.configure(
                Settings(first_token_timeout=7, gateway=Gateway(upstreams=(entry,)))
            )
            with pytest.raises(UpstreamBusy):
                await fleet.read()
            nursery.cancel_scope.cancel()

        assert fleet.standing("a") is standing
        assert fleet.roster.open_calls == 0


async def test_who_is_asked_for_its_health_no_more_is_up_whatever_it_was_about_to_say(
    autojump_clock: MockClock,
) -> None:
    steps = itertools.count(1)
    while await is_taken_out_before(next(steps)):
        pass

    assert next(steps) > 3


async def is_taken_out_before(step: int) -> bool:
    """Take its health out of the settings right before this step of the second time that it says
    that it is ill. Whether there were so many."""
    says = trio.Event()

    async def is_ill(call: UpstreamCall) -> None:
        if len(fleet.calls) == 2:
            says.set()
            await trio.sleep(0.1)
        await refuses(503)(call)

    options = {"health": "/health", "health_interval": 1.0}
    async with open_fleet({"a": [is_ill]}, **options) as fleet:
        await says.wait()
        with AtStep(step, lambda: fleet.roster.configure(settings_of("a"))) as instant:
            await trio.sleep(0.5)

        assert fleet.standing("a").is_up == instant.was_reached
    return instant.was_reached


async def test_a_call_is_counted_once_whatever_has_changed_since_it_was_made(
    autojump_clock: MockClock,
) -> None:
    counts: list[int] = []
    async with open_fleet({"a": [says_its_head_and_nothing]}) as fleet:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fleet.read)
            await wait_all_tasks_blocked()
            for names in ("a", "ab", "b", "cb", "a"):
                fleet.roster.configure(settings_of(*names))
                counts.append(fleet.roster.open_calls)
            nursery.cancel_scope.cancel()

        assert (counts, fleet.roster.open_calls) == ([1] * 5, 0)


async def test_a_call_of_an_upstream_that_is_gone_from_the_settings_goes_on(
    autojump_clock: MockClock,
) -> None:
    may_end = trio.Event()

    async def script(call: UpstreamCall) -> None:
        await call.start()
        await call.write(sse(b"a"))
        await may_end.wait()
        await call.finish(sse(b"[DONE]"))

    async with open_fleet({"a": [script]}, [in_turn("a", retries=0)]) as fleet:
        async with fleet.source() as feed:
            fleet.roster.configure(settings_of("b", b="http://127.0.0.1:9"))
            assert ([each.upstream.name for each in fleet.roster.members]) == ["b"]
            assert fleet.roster.open_calls == 1
            may_end.set()
            assert [each.data async for some in feed for each in some] == [b"a", b"[DONE]"]

        assert fleet.roster.open_calls == 0
        with pytest.raises(UpstreamUnreachable):
            await fleet.read("b")


async def one_call_after_another(trial: Trial) -> None:
    scripts: dict[str, list[Script] | None] = {
        "none": None,
        "silent": [says_its_head_and_nothing],
        "bad": [refuses(503)],
        "good": [GOOD],
    }
    with VirtualNetwork(on_io=trial.io) as network:
        async with open_fleet(scripts, [in_turn(*scripts, retries=5)], network=network) as fleet:
            await wait_all_tasks_blocked()
            with trial.target(), suppress(SourceFailed):
                await fleet.read()
            assert fleet.roster.open_calls == 0
            assert await fleet.read() == WHOLE


def test_a_request_that_is_cancelled_at_any_step_leaves_no_call() -> None:
    tally.checkpoints += cancel_at_every_checkpoint(one_call_after_another)


def test_a_request_whose_io_fails_at_any_point_leaves_no_call() -> None:
    def aborted() -> OSError:
        return ConnectionAbortedError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))

    tally.faults += fail_at_every_io(one_call_after_another, error=aborted)
