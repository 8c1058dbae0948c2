"""Law 9: whatever grows has a configured bound, and what is refused at a bound is refused by a
typed error that leaves everything as it was."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.reading import read_to_end
from tests.support.source import ScriptedSource
from trioproxy.fanout import (
    COMPLETED,
    CursorAhead,
    Event,
    ExpiredGeneration,
    Feed,
    Gap,
    Generation,
    Hub,
    HubClosed,
    HubFull,
    Identity,
    Limits,
    Share,
    SourceFailed,
    TooManyGenerations,
    TooManySubscribers,
    failed,
    open_hub,
)
from trioproxy.fanout.limits import Shares

KILOBYTE = b"x" * 744  # with the 256 bytes that an event costs


async def run_to_completion(hub: Hub, *messages: bytes) -> Generation:
    source = ScriptedSource()
    source.arrive(*messages)
    source.complete()
    generation = hub.start(None, source, linger=30)
    await wait_all_tasks_blocked()
    assert generation.outcome == COMPLETED
    return generation


# -- how many --------------------------------------------------------------------------------------


async def test_a_generation_takes_so_many_subscribers_and_no_more() -> None:
    source = ScriptedSource()
    async with open_hub(Limits(max_subscribers=2)) as hub:
        with hub.join("key", source) as first:
            with hub.join("key", source):
                with pytest.raises(TooManySubscribers), hub.join("key", source):
                    pass
                with pytest.raises(TooManySubscribers), hub.subscribe(first.generation.id):
                    pass

                assert len(first.generation.subscribers) == 2
            with hub.join("key", source):
                assert len(first.generation.subscribers) == 2
            assert first.generation.outcome is None


async def test_a_refused_subscriber_does_not_prolong_the_linger(
    autojump_clock: MockClock,
) -> None:
    source = ScriptedSource()
    async with open_hub(Limits(max_subscribers=1)) as hub:
        with (
            hub.join("key", source, linger=10) as first,
            pytest.raises(TooManySubscribers),
            hub.join("key", source, linger=99),
        ):
            pass
        await trio.sleep(10)
        await wait_all_tasks_blocked()

        assert not source.is_open
        assert first.generation.linger == 10


async def test_a_tenant_runs_so_many_generations_and_no_more() -> None:
    unused = ScriptedSource()
    async with open_hub(Limits(max_generations=2)) as hub:
        with ExitStack() as readers:
            for key in ("a", "b"):
                readers.enter_context(hub.join(key, ScriptedSource(), tenant="one"))
            with pytest.raises(TooManyGenerations), hub.join("c", unused, tenant="one"):
                pass
            with pytest.raises(TooManyGenerations):
                hub.start("c", unused, linger=30, tenant="one")
            readers.enter_context(hub.join("c", ScriptedSource(), tenant="other"))
            readers.enter_context(hub.join("a", unused, tenant="one"))
            await wait_all_tasks_blocked()

            assert len(hub.running) == 3
            assert unused.entries == []


async def test_a_generation_that_ended_makes_room_for_another() -> None:
    async with open_hub(Limits(max_generations=1)) as hub:
        with hub.join("a", ScriptedSource()) as subscriber:
            subscriber.generation.cancel("stopped")
            with hub.join("b", ScriptedSource()):
                assert len(hub.running) == 1


async def test_a_tenant_may_have_a_share_of_its_own_which_may_change() -> None:
    shares = {"one": Share(1, 2), "other": Share(2, 1)}
    async with open_hub(share_of=lambda tenant: shares[tenant]) as hub:
        with hub.join("a", ScriptedSource(), tenant="one"), ExitStack() as readers:
            with pytest.raises(TooManyGenerations):
                hub.start("b", ScriptedSource(), linger=30, tenant="one")
            for key in ("c", "d"):
                hub.start(key, ScriptedSource(), linger=30, tenant="other")
            readers.enter_context(hub.join("c", ScriptedSource(), tenant="other"))
            with pytest.raises(TooManySubscribers), hub.join("d", ScriptedSource(), tenant="other"):
                pass
            shares["one"], shares["other"] = Share(2, 2), Share(2, 2)
            readers.enter_context(hub.join("b", ScriptedSource(), tenant="one"))
            readers.enter_context(hub.join("d", ScriptedSource(), tenant="other"))

            assert len(hub.running) == 4


async def test_a_replica_is_counted_where_it_runs_and_not_here() -> None:
    async with open_hub(Limits(max_generations=1)) as hub:
        for number in range(3):
            identity = Identity(f"gen_{number}", is_replica=True)
            hub.start(number, ScriptedSource(), linger=30, tenant="one", identity=identity)
        hub.start("own", ScriptedSource(), linger=30, tenant="one")

        assert len(hub.running) == 4
        assert hub.shares.generations["one"] == 1
        next(iter(hub.running)).cancel("stopped")
        assert hub.shares.generations["one"] == 1


async def test_who_reads_for_others_takes_nobodys_place() -> None:
    limits = Limits(max_subscribers=1, max_tenant_subscribers=1)
    async with open_hub(limits) as hub:
        generation = hub.start("a", ScriptedSource(), linger=30, tenant="one")
        with (
            hub.subscribe(generation.id, counts=False),
            hub.subscribe(generation.id) as reader,
            hub.subscribe(generation.id, counts=False),
        ):
            with pytest.raises(TooManySubscribers), hub.subscribe(generation.id):
                pass

            assert reader in generation.subscribers
            assert hub.shares.subscribers["one"] == 1
        assert not hub.shares.subscribers


async def test_all_generations_of_a_tenant_have_so_many_subscribers_and_no_more() -> None:
    unused = ScriptedSource()
    async with open_hub(Limits(max_tenant_subscribers=2)) as hub:
        with hub.join("a", ScriptedSource(), tenant="one") as ended:
            ended.generation.cancel("stopped")
            with hub.join("b", ScriptedSource(), tenant="one") as running:
                for refused in (
                    hub.join("b", unused, tenant="one"),
                    hub.join("c", unused, tenant="one"),
                    hub.subscribe(ended.generation.id),
                ):
                    with pytest.raises(TooManySubscribers), refused:
                        pass
                with hub.join("c", ScriptedSource(), tenant="other"):
                    await wait_all_tasks_blocked()
                    assert len(hub.running) == 2
                    assert len(running.generation.subscribers) == 1
            with hub.subscribe(ended.generation.id) as back:
                assert len(back.generation.subscribers) == 2
    assert unused.entries == []


async def test_all_tenants_together_run_so_many_generations_and_no_more() -> None:
    async with open_hub(Limits(max_total_generations=2)) as hub:
        with hub.join("a", ScriptedSource(), tenant="one") as first:
            second = hub.start("b", ScriptedSource(), linger=30, tenant="other")
            with pytest.raises(HubFull) as refused, hub.join("c", ScriptedSource(), tenant="third"):
                pass
            with hub.join("a", ScriptedSource(), tenant="one") as joined:
                assert joined.generation is first.generation
            second.cancel("stopped")
            with hub.join("c", ScriptedSource(), tenant="third"):
                assert len(hub.running) == 2
    assert refused.value.reason == "generations"


async def test_nothing_is_started_while_what_runs_leaves_no_room() -> None:
    source = ScriptedSource()
    async with open_hub(Limits(max_hub_bytes=20_000)) as hub:
        with hub.join("a", source) as subscriber:
            source.arrive(*[KILOBYTE] * 30)
            await wait_all_tasks_blocked()
            with pytest.raises(HubFull) as refused:
                hub.start("b", ScriptedSource(), linger=30)
            with hub.join("a", ScriptedSource()) as joined:
                assert joined.generation is subscriber.generation
            subscriber.generation.cancel("stopped")
            hub.start("b", ScriptedSource(), linger=30)

            assert len(hub.running) == 1
    assert refused.value.reason == "memory"


async def test_what_is_retained_makes_room_for_what_starts() -> None:
    async with open_hub(Limits(max_hub_bytes=20_000)) as hub:
        source = ScriptedSource()
        source.arrive(*[KILOBYTE] * 30)
        source.complete()
        hub.start("a", source, linger=30)
        await wait_all_tasks_blocked()
        assert (len(hub.retained), hub.held_bytes > 18_750) == (1, True)

        hub.start("b", ScriptedSource(), linger=30)

        assert (len(hub.retained), hub.held_bytes) == (0, 0)


async def test_a_tenant_that_has_nothing_more_is_forgotten() -> None:
    shares = Shares(lambda tenant: Share(1, 1))
    shares.add_generation("one")
    shares.add_subscriber("one")
    shares.remove_subscriber("one")
    shares.remove_generation("one")

    assert not shares.generations
    assert not shares.subscribers


@pytest.mark.parametrize("after", [3, 1_000, -1])
async def test_a_cursor_outside_the_run_is_refused(after: int) -> None:
    source = ScriptedSource()
    source.arrive(b"1", b"2")
    async with open_hub() as hub:
        with hub.join("key", source) as first:
            await wait_all_tasks_blocked()
            with pytest.raises(CursorAhead), hub.join("key", source, after=after):
                pass

            assert len(first.generation.subscribers) == 1


@pytest.mark.parametrize("after", [1, -1])
async def test_a_cursor_into_what_has_yet_to_start_starts_nothing(after: int) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with pytest.raises(CursorAhead), hub.join("key", source, after=after):
            pass
        await wait_all_tasks_blocked()

        assert list(hub.running) == []
        assert source.entries == []


async def test_a_hub_that_refuses_starts_nothing_and_serves_on_what_runs() -> None:
    source, unused = ScriptedSource(), ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source):
            hub.refuse()
            with pytest.raises(HubClosed), hub.join("other", unused):
                pass
            with pytest.raises(HubClosed):
                hub.start("other", unused, linger=30)
            with hub.join("key", unused) as subscriber:
                source.complete(b"a")
                reading = await read_to_end(subscriber)

    assert reading.end == COMPLETED
    assert unused.entries == []


# -- bytes of one transcript -----------------------------------------------------------------------


async def test_a_transcript_drops_its_head_to_stay_in_its_bound() -> None:
    source = ScriptedSource()
    async with open_hub(Limits(max_transcript_bytes=3_000)) as hub:
        with hub.join("key", source) as subscriber:
            for seq in range(1, 11):
                source.arrive(KILOBYTE)
                await wait_all_tasks_blocked()

                assert hub.held_bytes == min(seq, 3) * 1_000
            batch = await anext(subscriber)

    assert (batch.gap, [event.seq for event in batch.events]) == (Gap(1, 7), [8, 9, 10])


async def test_a_transcript_that_must_be_whole_fails_at_its_bound() -> None:
    source = ScriptedSource()
    async with open_hub(Limits(max_transcript_bytes=3_000)) as hub:
        with hub.join("key", source, when_full="fail") as subscriber:
            source.arrive(*[KILOBYTE] * 10)
            reading = await read_to_end(subscriber)
            await wait_all_tasks_blocked()

            assert (reading.seqs, reading.end) == ([1, 2, 3], failed("too_large"))
            assert hub.held_bytes == 3_000
            assert not source.is_open


async def test_the_newest_event_stays_whatever_its_size() -> None:
    source = ScriptedSource()
    async with open_hub(Limits(max_transcript_bytes=1_000)) as hub:
        with hub.join("key", source) as subscriber:
            source.arrive(b"small", b"x" * 5_000)
            batch = await anext(subscriber)

    assert (batch.gap, [len(event.data) for event in batch.events]) == (Gap(1, 1), [5_000])


# -- bytes of the hub ------------------------------------------------------------------------------


async def test_the_oldest_retained_go_first_when_the_hub_is_full() -> None:
    source = ScriptedSource()
    async with open_hub(Limits(max_hub_bytes=6_000)) as hub:
        oldest, newer, newest = [await run_to_completion(hub, KILOBYTE) for _ in range(3)]
        with hub.join("key", source) as subscriber:
            source.arrive(*[KILOBYTE] * 3)
            await wait_all_tasks_blocked()

            assert [newer, newest] == hub.retained
            with pytest.raises(ExpiredGeneration):
                hub.get(oldest.id)
            source.arrive(*[KILOBYTE] * 2)
            await wait_all_tasks_blocked()

            assert hub.retained == []
            assert subscriber.generation.transcript.first == 1
            assert hub.held_bytes == 5_000


async def test_a_generation_drops_its_own_head_when_nothing_is_retained() -> None:
    source = ScriptedSource()
    async with open_hub(Limits(max_hub_bytes=5_000)) as hub:
        with hub.join("other", ScriptedSource()), hub.join("key", source) as subscriber:
            source.arrive(*[KILOBYTE] * 10)
            await wait_all_tasks_blocked()

            assert hub.held_bytes == 5_000
            assert subscriber.generation.transcript.first == 6


async def test_a_whole_transcript_fails_when_the_hub_is_full() -> None:
    other, source = ScriptedSource(), ScriptedSource()
    async with open_hub(Limits(max_hub_bytes=5_000)) as hub:
        with hub.join("other", other):
            other.arrive(*[KILOBYTE] * 4)
            await wait_all_tasks_blocked()
            with hub.join("key", source, when_full="fail") as subscriber:
                source.arrive(KILOBYTE, KILOBYTE)
                reading = await read_to_end(subscriber)

            assert (reading.seqs, reading.end) == ([1], failed("too_large"))


async def test_who_reads_a_retained_one_that_had_to_go_is_told_of_the_gap() -> None:
    source = ScriptedSource()
    async with open_hub(Limits(max_hub_bytes=5_000)) as hub:
        retained = await run_to_completion(hub, KILOBYTE, KILOBYTE)
        with hub.subscribe(retained.id) as subscriber, hub.join("key", source):
            source.arrive(*[KILOBYTE] * 4)
            await wait_all_tasks_blocked()
            reading = await read_to_end(subscriber)

    assert (reading.told, reading.end) == ([Gap(1, 3)], COMPLETED)


class Refused(SourceFailed):
    """A failure that carries the answer of whoever refused."""

    def __init__(self, body: bytes) -> None:
        super().__init__("refused", "no")
        self.body = body
        self.held_bytes = len(body)


async def test_what_a_failure_carries_counts_for_as_long_as_it_is_retained() -> None:
    source, sources = ScriptedSource(), [ScriptedSource() for _ in range(3)]
    async with open_hub(Limits(max_hub_bytes=2_500)) as hub:
        for refusing in sources:
            refusing.fail(Refused(b"x" * 1_000))
            hub.start(None, refusing, linger=30)
            await wait_all_tasks_blocked()
        assert (len(hub.retained), hub.held_bytes) == (2, 2_000)

        with hub.join("key", source):
            source.arrive(KILOBYTE)
            await wait_all_tasks_blocked()

            assert (len(hub.retained), hub.held_bytes) == (1, 2_000)


async def test_a_retained_failure_does_not_keep_what_it_was_raised_through() -> None:
    class Request:
        """What a source holds while it fails."""

    kept: list[weakref.ref[Request]] = []

    @asynccontextmanager
    async def refuse() -> AsyncGenerator[Feed]:
        request = Request()
        kept.append(weakref.ref(request))
        await trio.lowlevel.checkpoint()
        try:
            raise ValueError(request)
        except ValueError as error:
            raise Refused(b"") from error
        yield ScriptedSource()

    async with open_hub() as hub:
        generation = hub.start(None, refuse(), linger=30)
        await wait_all_tasks_blocked()
        gc.collect()

        assert generation.outcome == failed("refused")
        assert kept[0]() is None


async def test_only_so_many_are_retained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trioproxy.fanout.retention.MAX_RETAINED", 2)
    async with open_hub() as hub:
        oldest, *others = [await run_to_completion(hub, b"a") for _ in range(3)]

        assert others == hub.retained
        with pytest.raises(ExpiredGeneration):
            hub.get(oldest.id)


async def test_rendered_frames_count_in_the_bounds() -> None:
    def frame(generation_id: str, event: Event) -> bytes:
        return b"y" * 500

    source = ScriptedSource()
    async with open_hub(Limits(max_transcript_bytes=3_000)) as hub:
        with hub.join("key", source) as subscriber:
            source.arrive(*[KILOBYTE] * 2)
            batch = await anext(subscriber)
            batch.render(frame)
            assert hub.held_bytes == 3_000
            source.arrive(KILOBYTE)
            await wait_all_tasks_blocked()

            assert subscriber.generation.transcript.first == 2
            assert hub.held_bytes == 2_500


# -- how long --------------------------------------------------------------------------------------


async def test_an_ended_generation_can_be_read_for_its_retention(
    autojump_clock: MockClock,
) -> None:
    async with open_hub(Limits(retention=600)) as hub:
        generation = await run_to_completion(hub, b"a")
        await trio.sleep(599)
        with hub.subscribe(generation.id) as subscriber:
            assert (await read_to_end(subscriber)).data == [b"a", b"[DONE]"]
        await trio.sleep(1)

        with pytest.raises(ExpiredGeneration), hub.subscribe(generation.id):
            pass
        assert hub.retained == []
        assert hub.held_bytes == 0


async def test_nothing_of_a_forgotten_generation_stays_in_memory(
    autojump_clock: MockClock,
) -> None:
    async def live_and_end(key: str) -> weakref.ref[Generation]:
        source = ScriptedSource()
        with hub.join(key, source, tenant=key) as subscriber:
            source.complete(b"a")
            await read_to_end(subscriber)
        await wait_all_tasks_blocked()
        return weakref.ref(subscriber.generation)

    async with open_hub(Limits(retention=600)) as hub:
        lives = [await live_and_end(key) for key in "abc"]
        await trio.sleep(600)
        assert hub.retained == []
        gc.collect()

        assert [life() for life in lives] == [None] * 3
