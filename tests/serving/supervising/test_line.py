"""What a supervisor and a worker tell each other."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from trioproxy.serving.supervising.line import FIGURES, WORD, Line, LineClosed

WITHIN = 20.0


@asynccontextmanager
async def two_ends() -> AsyncGenerator[tuple[Line, Line]]:
    one, other = memory_stream_pair()
    async with one, other, trio.open_nursery() as nursery:
        lines = Line(one), Line(other)
        for line in lines:
            nursery.start_soon(line.run)
        yield lines
        nursery.cancel_scope.cancel()


async def test_what_is_said_is_heard_in_order_whatever_its_length() -> None:
    heard: list[tuple[bytes, bytes]] = []
    said = [(WORD, b""), (FIGURES, b"x" * 300_000), (WORD, b"READY=1")]
    async with two_ends() as (one, other):
        other.hear = lambda kind, text: heard.append((kind, text))
        for kind, text in said:
            one.say(kind, text)
        await one.flush()
        await wait_all_tasks_blocked()

    assert heard == said


async def test_each_question_gets_its_own_answer_at_both_ends_at_once() -> None:
    async with two_ends() as (one, other):
        answers = iter([b"slow", b"fast"])

        async def answer() -> bytes:
            text = next(answers)
            if text == b"slow":
                await said_fast.wait()
            return text

        async def nobody() -> bytes:
            await trio.lowlevel.checkpoint()
            return b"back"

        said_fast = trio.Event()
        other.answer, one.answer = answer, nobody
        got: list[bytes] = []

        async def ask() -> None:
            got.append(await one.ask())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            assert await one.ask() == b"fast"
            assert await other.ask() == b"back"
            said_fast.set()

    assert got == [b"slow"]


async def test_who_asks_no_more_is_not_answered_and_nothing_else_is() -> None:
    async with two_ends() as (one, other):
        may_answer = trio.Event()

        async def answer() -> bytes:
            await may_answer.wait()
            return b"late"

        other.answer = answer
        with trio.move_on_after(0):
            await one.ask()
        may_answer.set()
        assert await one.ask() == b"late"


async def test_questions_end_when_the_other_end_is_closed() -> None:
    one, other = memory_stream_pair()
    line = Line(one)

    async def ask() -> None:
        with pytest.raises(LineClosed):
            await line.ask()

    with trio.fail_after(WITHIN):
        async with one, trio.open_nursery() as nursery:
            nursery.start_soon(line.run)
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            await other.aclose()
        await ask()
        line.say(WORD, b"to nobody")
        await line.flush()


async def test_frames_that_come_byte_by_byte_are_frames() -> None:
    one, other = memory_stream_pair()
    heard: list[bytes] = []
    async with one, other, trio.open_nursery() as nursery:
        sender, receiver = Line(one), Line(other)
        receiver.hear = lambda kind, text: heard.append(text)
        nursery.start_soon(sender.run)
        sender.say(WORD, b"hello")
        sender.say(WORD, b"there")
        await sender.flush()
        frames = await other.receive_some()
        piecemeal, end = memory_stream_pair()
        receiver = Line(end)
        receiver.hear = lambda kind, text: heard.append(text)
        nursery.start_soon(receiver.run)
        for byte in frames:
            await piecemeal.send_all(bytes([byte]))
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert heard == [b"hello", b"there"]
