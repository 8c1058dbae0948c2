"""What becomes of a stream when its connection breaks: which request follows, when, and when no
more does."""

from __future__ import annotations

from email.utils import formatdate

import pytest
import trio
from trio.testing import MockClock

from tests.client.played import (
    DONE,
    GENERATION,
    LINES,
    Script,
    breaks_off,
    describes,
    event,
    has_read_all,
    own,
    play,
    refuses,
    says,
    says_nothing,
    token,
    tokens,
)
from tests.client.scenes import BODY, PATH
from trioproxy.client import (
    AttemptFailed,
    Gap,
    GenerationFailed,
    GenerationGone,
    GenerationStream,
    ProxyUnreachable,
    Refused,
    StreamBroken,
    UnexpectedAnswer,
)
from trioproxy.testing.upstream import UpstreamCall

EVENTS = f"GET /v1/generations/{GENERATION}/events"
DESCRIPTION = f"GET /v1/generations/{GENERATION}"
ASKED = f"POST {PATH}"
OWN_FAILURE = own(b'{"error": {"message": "too slow", "type": "server_error", "code": "evicted"}}')


async def seqs_of(stream: GenerationStream) -> list[int]:
    return [event.seq async for event in stream]


async def test_a_request_without_an_answer_is_repeated_under_the_same_key(
    autojump_clock: MockClock,
) -> None:
    async with play(breaks_off(), says(tokens(1, 2), event(3, DONE))) as (proxy, client):
        assert await seqs_of(client.stream(PATH, BODY, linger=7)) == [1, 2, 3]

    assert proxy.targets == [ASKED, ASKED]
    assert proxy.calls[0].body == proxy.calls[1].body == b'{"prompt":"The river","stream":true}'
    assert proxy.header(0, "x-generation-key") == proxy.header(1, "x-generation-key")
    assert len(proxy.header(0, "x-generation-key") or "") == 32
    assert (proxy.header(0, "x-linger"), proxy.header(0, "x-fanout")) == ("7", None)


async def test_a_cut_stream_is_taken_up_behind_the_last_event_in_the_name_of_who_asked(
    autojump_clock: MockClock,
) -> None:
    who = {"x-api-key": "mine", "ACCEPT-encoding": "gzip"}
    async with play(
        breaks_off(tokens(1, 2), token(3)[:-9]), says(token(3), event(4, DONE)), api_key="k"
    ) as (proxy, client):
        stream = client.stream(
            PATH + "?a=1", BODY, generation_key="own", mode="replay", headers=who
        )
        assert await seqs_of(stream) == [1, 2, 3, 4]

    assert [f"{ASKED}?a=1", EVENTS] == proxy.targets
    assert (proxy.header(0, "x-generation-key"), proxy.header(0, "x-fanout")) == ("own", "replay")
    assert f"{GENERATION}:2" == proxy.header(1, "last-event-id")
    for number in range(2):
        assert proxy.header(number, "authorization") == "Bearer k"
        assert proxy.header(number, "x-api-key") == "mine"
        assert proxy.header(number, "accept-encoding") == "identity"


async def test_what_comes_twice_is_given_once(autojump_clock: MockClock) -> None:
    async with play(breaks_off(tokens(1, 3)), says(tokens(2, 4), event(5, DONE))) as (_, client):
        assert await seqs_of(client.stream(PATH, BODY)) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("status", [400, 401, 404, 409, 410, 429, 500, 502, 503])
async def test_a_request_that_was_refused_is_not_repeated(
    status: int, autojump_clock: MockClock
) -> None:
    async with play(breaks_off(), refuses(status, code="why")) as (proxy, client):
        with pytest.raises(Refused, match="not now") as caught:
            await anext(client.stream(PATH, BODY))

    assert (status, "why") == (caught.value.status, caught.value.code)
    assert proxy.targets == [ASKED, ASKED]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("is_date", [False, True])
async def test_who_is_put_off_comes_back_when_told(
    status: int, is_date: bool, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr("trioproxy.client.calls.time", lambda: 1_000_000.0)
    when = formatdate(1_000_007, usegmt=True) if is_date else "7"
    async with play(refuses(status, ("Retry-After", when)), says(event(1, DONE))) as (
        proxy,
        client,
    ):
        assert await seqs_of(client.stream(PATH, BODY)) == [1]

    assert pytest.approx(proxy.times) == [0, 7.1]


async def test_delays_double_and_after_progress_begin_anew(autojump_clock: MockClock) -> None:
    scripts = [breaks_off(token(1)), *[breaks_off()] * 7, breaks_off(token(2)), *[breaks_off()] * 8]
    async with play(*scripts) as (proxy, client):
        stream = client.stream(PATH, BODY)
        assert [(await anext(stream)).seq for _ in range(2)] == [1, 2]
        with pytest.raises(StreamBroken, match="after event 2 and 8 attempts") as caught:
            await anext(stream)

    assert (caught.value.generation_id, caught.value.seq) == (GENERATION, 2)
    assert isinstance(caught.value.__cause__, AttemptFailed)
    delays = [later - earlier for earlier, later in zip(proxy.times, proxy.times[1:], strict=False)]
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0] * 2)
    assert [ASKED, *[EVENTS] * 16] == proxy.targets


async def test_a_stream_that_was_given_up_can_be_iterated_again(autojump_clock: MockClock) -> None:
    scripts = [breaks_off(token(1)), breaks_off(), breaks_off(), says(token(2), event(3, DONE))]
    async with play(*scripts, max_attempts=2) as (_, client):
        stream = client.stream(PATH, BODY)
        await anext(stream)
        with pytest.raises(StreamBroken):
            await anext(stream)

        assert await seqs_of(stream) == [2, 3]


async def test_heartbeats_are_a_sign_of_life(autojump_clock: MockClock) -> None:
    async def slow(call: UpstreamCall) -> None:
        await call.start(
            200, ("content-type", "text/event-stream"), ("x-generation-id", GENERATION)
        )
        for _ in range(10):
            await trio.sleep(59)
            await call.write(b":\n")
        await call.finish(event(1, DONE))

    async with play(slow) as (_, client):
        assert await seqs_of(client.stream(PATH, BODY)) == [1]

    assert trio.current_time() == 590


@pytest.mark.parametrize("before", ["the head", "an event"])
async def test_silence_is_a_broken_connection(before: str, autojump_clock: MockClock) -> None:
    async def falls_silent(call: UpstreamCall) -> None:
        await call.start(
            200, ("content-type", "text/event-stream"), ("x-generation-id", GENERATION)
        )
        await call.write(token(1))

    silent = says_nothing if before == "the head" else falls_silent
    rest = says(event(2, DONE)) if before == "an event" else says(token(1), event(2, DONE))
    async with play(silent, rest, silence_timeout=20) as (proxy, client):
        assert await seqs_of(client.stream(PATH, BODY)) == [1, 2]
        await proxy.calls[0].wait_departure()

    assert pytest.approx(proxy.times) == [0, 20.1]


@pytest.mark.parametrize("status", [404, 410])
async def test_a_generation_that_is_gone_is_told(status: int, autojump_clock: MockClock) -> None:
    async with play(breaks_off(token(1)), refuses(status)) as (_, client):
        stream = client.stream(PATH, BODY)
        await anext(stream)
        with pytest.raises(GenerationGone) as caught:
            await anext(stream)

    assert status == caught.value.status


# -- how it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [has_read_all, says()], ids=["204", "an empty answer"])
async def test_who_has_read_all_of_a_whole_answer_is_at_its_end(
    ending: Script, autojump_clock: MockClock
) -> None:
    async with play(describes(5, "completed"), ending, describes(5, "completed")) as (_, client):
        assert await seqs_of(client.read(GENERATION, after=5)) == []


async def test_who_has_read_all_of_a_failed_answer_is_told_so(autojump_clock: MockClock) -> None:
    failed = describes(2, "failed", "truncated")
    async with play(breaks_off(tokens(1, 2)), has_read_all, failed) as (_, client):
        stream = client.stream(PATH, BODY)
        assert [(await anext(stream)).seq for _ in range(2)] == [1, 2]
        for _ in range(2):  # it stays so
            with pytest.raises(GenerationFailed) as caught:
                await anext(stream)

    assert (caught.value.code, caught.value.seq) == ("truncated", 2)


async def test_a_proper_end_without_a_terminal_event_is_no_end(autojump_clock: MockClock) -> None:
    failed = describes(1, "failed", "truncated")
    async with play(says(token(1)), failed) as (_, client):
        stream = client.stream(PATH, BODY)
        await anext(stream)
        with pytest.raises(GenerationFailed, match="failed: truncated"):
            await anext(stream)


@pytest.mark.parametrize("now", [describes(1), describes(2), describes(2, "completed")])
async def test_what_the_proxy_says_of_this_reader_does_not_end_the_stream(
    now: Script, autojump_clock: MockClock
) -> None:
    evicted = says(token(1), OWN_FAILURE, own(DONE))
    async with play(evicted, now, says(event(2, DONE))) as (proxy, client):
        assert await seqs_of(client.stream(PATH, BODY)) == [1, 2]

    assert proxy.targets == [ASKED, DESCRIPTION, EVENTS]


@pytest.mark.parametrize(
    "last_word", [describes(1, "failed", "x"), refuses(410)], ids=["failed", "gone"]
)
async def test_what_the_proxy_says_of_the_generation_ends_it(
    last_word: Script, autojump_clock: MockClock
) -> None:
    async with play(says(token(1), OWN_FAILURE), refuses(502), last_word) as (proxy, client):
        stream = client.stream(PATH, BODY)
        await anext(stream)
        with pytest.raises(GenerationFailed, match="after event 1: too slow") as caught:
            await anext(stream)

    assert (
        caught.value.code,
        caught.value.generation_id,
        caught.value.seq,
    ) == ("evicted", GENERATION, 1)
    assert proxy.targets == [ASKED, DESCRIPTION, DESCRIPTION]


async def test_an_error_of_the_transcript_ends_it_after_the_events_before(
    autojump_clock: MockClock,
) -> None:
    told = event(3, b'{"error": {"message": "out of memory", "type": "oom"}}')
    async with play(says(tokens(1, 2), told, own(DONE))) as (_, client):
        stream = client.stream(PATH, BODY)
        assert [(await anext(stream)).seq for _ in range(2)] == [1, 2]
        with pytest.raises(GenerationFailed, match="out of memory") as caught:
            await anext(stream)

    assert (caught.value.code, caught.value.seq) == ("oom", 2)


async def test_heartbeats_that_are_events_are_none_of_the_generation(
    autojump_clock: MockClock,
) -> None:
    ping = own(b'{"type": "ping"}', b"ping")
    sent = event(1, b'{"type":"ping"}', b"ping"), event(2, b"{}", b"message_stop")
    async with play(says(ping, sent[0], ping, ping, sent[1])) as (_, client):
        events = [each async for each in client.stream("/v1/messages", BODY)]

    assert [(each.seq, each.name) for each in events] == [(1, "ping"), (2, "message_stop")]


# -- gaps, and where a stream begins --------------------------------------------------------------


@pytest.mark.parametrize("told", [own(b'{"first": 2, "last": 4}', b"gap"), b""])
async def test_a_gap_is_raised_in_its_place_and_the_stream_goes_on_behind_it(
    told: bytes, autojump_clock: MockClock
) -> None:
    rest = says(told, token(5), event(6, DONE))
    async with play(breaks_off(token(1)), rest) as (_, client):
        stream = client.stream(PATH, BODY)
        await anext(stream)
        with pytest.raises(Gap) as caught:
            await anext(stream)
        assert stream.seq == 4

        assert await seqs_of(stream) == [5, 6]

    assert (
        caught.value.generation_id,
        caught.value.first,
        caught.value.last,
    ) == (GENERATION, 2, 4)


async def test_a_live_reader_begins_anywhere_and_goes_on_from_there(
    autojump_clock: MockClock,
) -> None:
    scripts = [describes(16), breaks_off(tokens(17, 18)), says(token(19), event(20, DONE))]
    async with play(*scripts) as (proxy, client):
        assert await seqs_of(client.read(GENERATION, mode="live")) == [17, 18, 19, 20]

    assert [DESCRIPTION, f"{EVENTS}?mode=live", EVENTS] == proxy.targets
    assert f"{GENERATION}:18" == proxy.header(2, "last-event-id")


async def test_a_live_reader_that_comes_too_late_is_at_the_end(autojump_clock: MockClock) -> None:
    async with play(describes(16, "completed"), says(own(DONE))) as (_, client):
        assert await seqs_of(client.read(GENERATION, mode="live")) == []


# -- lines ----------------------------------------------------------------------------------------

LINE = b'{"response": "a", "done": false}\n'
LAST_LINE = b'{"response": "", "done": true}\n'
GENERATE = "/api/generate"


async def test_lines_are_counted_and_taken_up_as_events(autojump_clock: MockClock) -> None:
    scripts = [
        breaks_off(LINE, LINE, LINE[:5], head=LINES),
        says(event(3, LINE.strip()), event(4, LAST_LINE.strip())),
    ]
    async with play(*scripts) as (proxy, client):
        events = [each async for each in client.stream(GENERATE, BODY)]

    assert [each.seq for each in events] == [1, 2, 3, 4]
    assert "".join(each.text for each in events) == "aaa"
    assert f"{GENERATION}:2" == proxy.header(1, "last-event-id")


async def test_a_line_that_tells_a_failure_is_no_event(autojump_clock: MockClock) -> None:
    failed = b'{"error": "no memory"}\n'
    async with play(
        says(LINE, failed, head=LINES), describes(2, "failed"), says(event(2, failed.strip()))
    ) as (_, client):
        stream = client.stream(GENERATE, BODY)
        await anext(stream)
        with pytest.raises(GenerationFailed, match="after event 1: no memory"):
            await anext(stream)


async def test_a_line_by_which_the_proxy_sends_a_reader_away_is_not_counted(
    autojump_clock: MockClock,
) -> None:
    evicted = says(LINE, b'{"error": "too slow"}\n', head=LINES)
    async with play(evicted, describes(1), says(event(2, LAST_LINE.strip()))) as (_, client):
        assert await seqs_of(client.stream(GENERATE, BODY)) == [1, 2]


async def test_lines_that_begin_anywhere_are_read_as_events(autojump_clock: MockClock) -> None:
    joined = says(LINE, head=(*LINES, ("x-cache", "join")))
    async with play(joined, says(event(17, LAST_LINE.strip()))) as (proxy, client):
        assert await seqs_of(client.stream(GENERATE, BODY, mode="live")) == [17]

    assert [f"POST {GENERATE}", f"{EVENTS}?mode=live"] == proxy.targets


# -- what no trioproxy says -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "strange",
    [
        says(token(1), head=[("content-type", "text/event-stream")]),
        says(b"{}", head=[("content-type", "application/json"), ("x-generation-id", GENERATION)]),
        says(b"id: other:1\ndata: {}\n\n"),
        says(own(b"[]", b"gap")),
        says(b"data: " + b"x" * (17 << 20)),
    ],
    ids=["no id", "no stream", "another's event", "no gap", "too large"],
)
async def test_what_makes_no_sense_is_told(strange: Script, autojump_clock: MockClock) -> None:
    async with play(strange) as (_, client):
        with pytest.raises(UnexpectedAnswer):
            await anext(client.stream(PATH, BODY))


@pytest.mark.parametrize("body", [b"<html>", b"[]"])
async def test_what_describes_no_generation_is_told(body: bytes, autojump_clock: MockClock) -> None:
    async with play(says(body)) as (_, client):
        with pytest.raises(UnexpectedAnswer):
            await anext(client.read(GENERATION))


# -- requests that are no streams -----------------------------------------------------------------


async def test_looking_and_stopping_are_repeated(autojump_clock: MockClock) -> None:
    async with play(breaks_off(), describes(1), refuses(503), describes(2)) as (proxy, client):
        assert (await client.generation(GENERATION))["events"] == 1
        assert (await client.cancel(GENERATION))["events"] == 2

    delete = f"DELETE /v1/generations/{GENERATION}"
    assert [DESCRIPTION, DESCRIPTION, delete, delete] == proxy.targets


async def test_looking_is_given_up(autojump_clock: MockClock) -> None:
    async with play(*[breaks_off()] * 3, max_attempts=3) as (_, client):
        with pytest.raises(ProxyUnreachable, match="3 attempts failed") as caught:
            await client.generation("a/b")

    assert isinstance(caught.value.__cause__, AttemptFailed)
