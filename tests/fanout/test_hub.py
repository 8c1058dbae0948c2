"""The registry: who is joined to what, what is found under which name, and for how long."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from tests.support.reading import read_to_end
from tests.support.source import ScriptedSource
from trioproxy.fanout import (
    COMPLETED,
    ExpiredGeneration,
    Generation,
    Hub,
    Identity,
    Limits,
    Mode,
    UnknownGeneration,
    open_hub,
)


async def run_to_completion(
    hub: Hub, key: str | None = None, identity: Identity | None = None
) -> Generation:
    source = ScriptedSource()
    source.complete(b"a")
    generation = hub.start(key, source, linger=30, identity=identity)
    await wait_all_tasks_blocked()
    assert generation.outcome == COMPLETED
    return generation


# -- modes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "after", "expected"),
    [
        ("replay", None, [1, 2, 3, 4, 5]),
        ("replay", 0, [1, 2, 3, 4, 5]),
        ("replay", 2, [3, 4, 5]),
        ("live", None, [4, 5]),
        ("live", 0, [1, 2, 3, 4, 5]),
        ("live", 2, [3, 4, 5]),
    ],
)
async def test_a_late_joiner_gets_what_its_mode_says_unless_it_says_where_it_stopped(
    mode: Mode, after: int | None, expected: list[int]
) -> None:
    source = ScriptedSource()
    async with open_hub() as hub:
        with hub.join("key", source):
            source.arrive(b"1", b"2", b"3")
            await wait_all_tasks_blocked()
            with hub.join("key", source, mode=mode, after=after) as late:
                source.complete(b"4")
                reading = await read_to_end(late)

    assert expected == reading.seqs


async def test_the_first_of_a_live_generation_gets_all_of_it() -> None:
    source = ScriptedSource()
    source.complete(b"1")
    async with open_hub() as hub:
        with hub.join("key", source, mode="live") as first:
            reading = await read_to_end(first)

    assert reading.seqs == [1, 2]


async def test_a_private_generation_neither_joins_nor_is_joined() -> None:
    sources = [ScriptedSource() for _ in range(4)]
    private, shared, also_private, joiner = sources
    async with open_hub() as hub:
        with (
            hub.join("key", private, mode="private"),
            hub.join("key", shared) as first,
            hub.join("key", also_private, mode="private"),
            hub.join("key", joiner) as second,
        ):
            await wait_all_tasks_blocked()

            assert [len(source.entries) for source in sources] == [1, 1, 1, 0]
            assert first.generation is second.generation


async def test_a_private_generation_can_be_read_by_its_id() -> None:
    source = ScriptedSource()
    source.complete(b"a")
    async with open_hub() as hub:
        with (
            hub.join("key", source, mode="private") as owner,
            hub.subscribe(owner.generation.id) as other,
        ):
            reading = await read_to_end(other)

    assert reading.data == [b"a", b"[DONE]"]


async def test_without_a_key_nothing_is_shared() -> None:
    sources = [ScriptedSource() for _ in range(3)]
    async with open_hub() as hub:
        with hub.join(None, sources[0]), hub.join(None, sources[1]):
            hub.start(None, sources[2], linger=30)
            await wait_all_tasks_blocked()

            assert [len(source.entries) for source in sources] == [1, 1, 1]
            assert hub.find(None) is None


async def test_a_private_start_is_found_under_no_key() -> None:
    async with open_hub() as hub:
        private = hub.start("key", ScriptedSource(), mode="private", linger=30)
        shared = hub.start("key", ScriptedSource(), linger=30)

        assert private.key is None
        assert shared is hub.find("key")


# -- looking up ------------------------------------------------------------------------------------


async def test_a_running_generation_is_found_by_its_key_and_its_id() -> None:
    async with open_hub() as hub:
        with hub.join("key", ScriptedSource()) as subscriber:
            generation = subscriber.generation

            assert generation is hub.find("key")
            assert generation is hub.get(generation.id)
            assert list(hub.running) == [generation]
            assert hub.retained == []


async def test_an_ended_generation_is_found_by_its_id_alone() -> None:
    async with open_hub() as hub:
        generation = await run_to_completion(hub, "key")

        assert hub.find("key") is None
        assert generation is hub.get(generation.id)
        assert list(hub.running) == []
        assert hub.retained == [generation]


async def test_an_id_that_never_was_is_unknown() -> None:
    async with open_hub() as hub:
        with pytest.raises(UnknownGeneration):
            hub.get("gen_0")
        with pytest.raises(UnknownGeneration), hub.subscribe("gen_0"):
            pass


async def test_running_and_retained_are_told_oldest_first() -> None:
    async with open_hub() as hub:
        ended = [await run_to_completion(hub) for _ in range(3)]
        running = [hub.start(None, ScriptedSource(), linger=30) for _ in range(3)]

        assert ended == hub.retained
        assert running == list(hub.running)


async def test_ids_are_unique_and_say_what_they_are() -> None:
    async with open_hub() as hub:
        ids = {hub.start(None, ScriptedSource(), linger=30).id for _ in range(100)}

    assert len(ids) == 100
    assert {name[:4] for name in ids} == {"gen_"}


async def test_a_generation_keeps_what_it_was_started_for() -> None:
    origin = object()
    async with open_hub() as hub:
        with hub.join("key", ScriptedSource(), origin=origin, tenant="one") as first:
            with hub.join("key", ScriptedSource(), origin=object(), tenant="one") as second:
                generation = second.generation

            assert first.generation is generation
            assert origin is generation.origin
            assert (generation.key, generation.tenant) == ("key", "one")


# -- retention -------------------------------------------------------------------------------------


async def test_an_expired_id_is_told_from_one_that_never_was(autojump_clock: MockClock) -> None:
    async with open_hub(Limits(retention=600)) as hub:
        generation = await run_to_completion(hub)
        await trio.sleep(600)

        with pytest.raises(ExpiredGeneration):
            hub.get(generation.id)


async def test_a_replica_that_is_forgotten_may_still_be_had_elsewhere(
    autojump_clock: MockClock,
) -> None:
    async with open_hub(Limits(retention=600)) as hub:
        identity = Identity("gen_1", is_replica=True)
        replica = await run_to_completion(hub, identity=identity)
        await trio.sleep(600)

        with pytest.raises(UnknownGeneration):
            hub.get(replica.id)


async def test_only_so_many_expired_ids_are_remembered(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr("trioproxy.fanout.retention.REMEMBERED_IDS", 2)
    async with open_hub(Limits(retention=600)) as hub:
        oldest, *remembered = [await run_to_completion(hub) for _ in range(3)]
        await trio.sleep(600)

        with pytest.raises(UnknownGeneration):
            hub.get(oldest.id)
        for generation in remembered:
            with pytest.raises(ExpiredGeneration):
                hub.get(generation.id)


async def test_each_generation_expires_in_its_own_time(autojump_clock: MockClock) -> None:
    async with open_hub(Limits(retention=600)) as hub:
        older = await run_to_completion(hub)
        await trio.sleep(300)
        newer = await run_to_completion(hub)
        await trio.sleep(300)

        assert hub.retained == [newer]
        with pytest.raises(ExpiredGeneration):
            hub.get(older.id)


async def test_what_is_being_read_stays_until_it_is_not(autojump_clock: MockClock) -> None:
    async with open_hub(Limits(retention=600)) as hub:
        being_read = await run_to_completion(hub)
        await run_to_completion(hub)
        with hub.subscribe(being_read.id) as subscriber:
            await trio.sleep(10_000)

            assert hub.retained == [being_read]
            assert being_read is hub.get(being_read.id)
            assert (await read_to_end(subscriber)).seqs == [1, 2]

        assert hub.retained == []
        assert hub.held_bytes == 0


async def test_without_retention_an_ended_generation_is_gone_when_nobody_reads_it() -> None:
    source = ScriptedSource()
    async with open_hub(Limits(retention=0)) as hub:
        with hub.join("key", source) as subscriber:
            generation = subscriber.generation
            source.complete(b"a")
            await wait_all_tasks_blocked()
            with hub.subscribe(generation.id) as other:
                assert (await read_to_end(other)).seqs == [1, 2]
            assert (await read_to_end(subscriber)).seqs == [1, 2]

        with pytest.raises(ExpiredGeneration):
            hub.get(generation.id)


async def test_without_retention_an_abandoned_generation_is_gone_at_once() -> None:
    async with open_hub(Limits(retention=0)) as hub:
        with hub.join("key", ScriptedSource()) as subscriber:
            pass

        with pytest.raises(ExpiredGeneration):
            hub.get(subscriber.generation.id)


# -- draining --------------------------------------------------------------------------------------


async def test_waiting_for_idleness_waits_for_the_last_to_end(autojump_clock: MockClock) -> None:
    async with open_hub() as hub:
        for linger in (10, 30, 20):
            hub.start(None, ScriptedSource(), linger=linger)
        await hub.wait_idle()

        assert trio.current_time() == 30
        assert list(hub.running) == []


async def test_waiting_for_idleness_is_a_checkpoint_though_nothing_runs() -> None:
    async with open_hub() as hub:
        with assert_checkpoints():
            await hub.wait_idle()


async def test_a_cancelled_wait_for_idleness_changes_nothing(autojump_clock: MockClock) -> None:
    async with open_hub() as hub:
        generation = hub.start(None, ScriptedSource(), linger=30)
        with trio.move_on_after(10) as wait:
            await hub.wait_idle()

        assert wait.cancelled_caught
        assert list(hub.running) == [generation]


async def test_many_can_wait_for_idleness() -> None:
    async with open_hub() as hub, trio.open_nursery() as nursery:
        generation = hub.start(None, ScriptedSource(), linger=30)
        for _ in range(3):
            nursery.start_soon(hub.wait_idle)
        await wait_all_tasks_blocked()
        generation.cancel("stopped")
        await wait_all_tasks_blocked()

        assert nursery.child_tasks == frozenset()


async def test_a_closed_hub_can_be_closed_again() -> None:
    async with open_hub() as hub:
        hub.start(None, ScriptedSource(), linger=30)
        hub.close()
        hub.close()

        assert list(hub.running) == []
