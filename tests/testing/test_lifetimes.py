"""Trio's classes are wrapped while somebody watches, tell of every beginning and end, and are put
back exactly."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import pytest
import trio

from trioproxy.testing import lifetimes
from trioproxy.testing.lifetimes import PLACES, Kind, Making, unwatch, watch


class Diary:
    """What was told, and whether it was told where a control-C cannot break in."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.kinds: dict[int, Kind] = {}
        self.protected: list[bool] = []

    def opened(self, kind: Kind, thing: object, made: Making) -> None:
        self.kinds[id(thing)] = kind
        self.lines.append(f"{kind} opened")
        self.protected.append(trio.lowlevel.currently_ki_protected())

    def closed(self, thing: object) -> None:
        self.lines.append(f"{self.kinds.get(id(thing))} closed")
        self.protected.append(trio.lowlevel.currently_ki_protected())


@contextmanager
def watching() -> Generator[Diary]:
    diary = Diary()
    watch(diary.opened, diary.closed)
    try:
        yield diary
    finally:
        unwatch(diary.opened, diary.closed)


def methods() -> list[object]:
    return [vars(owner)[name] for owner, name, _ in PLACES]


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, name, _ in PLACES])
def test_this_trio_has_the_place(owner: type, name: str) -> None:
    assert callable(vars(owner).get(name)), (
        f"trio {trio.__version__} has no {owner.__name__}.{name} of its own: "
        f"{lifetimes.__name__} must learn of these lifetimes in another way"
    )


def test_trio_is_as_it_was_when_the_last_one_stops_watching() -> None:
    before = methods()

    with watching():
        wrapped = methods()
        with watching():
            assert methods() == wrapped
        assert methods() == wrapped

    assert all(now is then for now, then in zip(methods(), before, strict=True))
    assert not any(now is then for now, then in zip(wrapped, before, strict=True))


def test_trio_is_as_it_was_although_the_first_to_watch_stops_first() -> None:
    before = methods()
    first, second = Diary(), Diary()

    watch(first.opened, first.closed)
    watch(second.opened, second.closed)
    unwatch(first.opened, first.closed)
    assert before != methods()
    unwatch(second.opened, second.closed)

    assert before == methods()


def test_watching_twice_is_refused_and_changes_nothing() -> None:
    before = methods()
    with watching() as diary, pytest.raises(RuntimeError, match="already"):
        watch(diary.opened, diary.closed)

    assert before == methods()


async def test_scope_is_told_of_when_it_is_entered_and_left() -> None:
    with watching() as diary:
        scope = trio.CancelScope()
        assert diary.lines == []
        with scope:
            assert diary.lines == ["cancel scope opened"]

    assert diary.lines == ["cancel scope opened", "cancel scope closed"]


async def test_nursery_is_told_of_under_its_scope() -> None:
    with watching() as diary:
        async with trio.open_nursery():
            pass

    assert diary.lines == ["cancel scope opened", "nursery opened", "nursery closed"]


async def test_halves_are_told_of_however_they_are_closed() -> None:
    with watching() as diary:
        send, receive = trio.open_memory_channel[None](1)
        async with send.clone(), receive.clone():
            pass
        await send.aclose()
        with receive:
            pass

    opened = ["send channel opened", "receive channel opened"]
    closed = ["send channel closed", "receive channel closed"]
    assert [*opened, *opened, *reversed(closed), *closed] == diary.lines


async def test_control_c_cannot_break_in_where_trio_keeps_it_out() -> None:
    send, receive = trio.open_memory_channel[None](1)
    with watching() as diary:
        assert not trio.lowlevel.currently_ki_protected()
        scope = trio.CancelScope()
        with scope:
            send.close()
            receive.close()

    assert diary.protected == [True] * 4


async def test_scope_that_cannot_be_entered_is_not_told_of() -> None:
    scope = trio.CancelScope()
    with scope:
        pass

    with watching() as diary, pytest.raises(RuntimeError, match="single 'with' block"):
        scope.__enter__()

    assert diary.lines == []


async def test_scope_that_another_task_tries_to_leave_is_not_over() -> None:
    async def leave() -> None:
        with pytest.raises(RuntimeError, match="from unrelated"):
            scope.__exit__(None, None, None)

    with watching() as diary:
        with trio.CancelScope() as holder:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(leave)
                with trio.CancelScope() as scope:
                    await trio.testing.wait_all_tasks_blocked()
                    assert "cancel scope closed" not in diary.lines
        assert not holder.cancelled_caught

    assert diary.lines.count("cancel scope closed") == 2


def test_what_the_root_of_all_tasks_makes_is_not_told_of() -> None:
    with watching() as diary:
        trio.run(trio.lowlevel.checkpoint)

    assert diary.lines == ["None closed"] * 3
