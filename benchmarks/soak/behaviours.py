"""What readers do: each behaviour is one visit, drawn by its weight in :data:`BEHAVIOURS`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import trio

from benchmarks.soak.exchange import DEPARTURES, open_exchange
from benchmarks.soak.questions import (
    Question,
    draw_endless_question,
    draw_long_question,
)
from benchmarks.soak.reading import Violation
from benchmarks.soak.visitor import Stream, Visitor

SMALL_BUFFER = 4096
MAX_TOGETHER = 4
MAX_EVENTS_TOGETHER = 20
SHORT_STALL_SECONDS = 2.0
"""Less than the proxy's write timeout: a reader that goes on must not be cut."""
LONG_STALL_SECONDS = 8.0
"""More than the write timeout: a reader that stalls so long may be."""
HESITATION_SECONDS = 1.0
"""The longest that a reader waits before it leaves in the middle of asking."""
AWAY_SECONDS = 3.0
"""The longest that a reader is mostly away: longer than some lingers."""
CREATE_LINGER_SECONDS = 4.0


async def stay(visitor: Visitor) -> None:
    """Read to the end, perhaps as one who comes late."""
    async with visitor.ask(visitor.pick_question(), visitor.pick_mode()) as stream:
        await stream.read_to_end()


async def leave(visitor: Visitor) -> None:
    """Leave in the middle."""
    async with visitor.ask(visitor.pick_question(), visitor.pick_mode()) as stream:
        await _read_some(visitor, stream)
        await visitor.random.choice(DEPARTURES)(stream.exchange)


async def leave_together(visitor: Visitor) -> None:
    """Be a few who read an answer without end, and who all leave, each in its own time and way: the
    call ends then or never."""
    question = draw_endless_question(visitor.random, visitor.commons.next_prompt())
    async with trio.open_nursery() as nursery:
        for _ in range(visitor.random.randint(1, MAX_TOGETHER)):
            nursery.start_soon(_read_and_leave, visitor, question)


async def leave_before_the_answer(visitor: Visitor) -> None:
    """Leave when the request is out and the first token, or even the head, is not there yet."""
    question = visitor.pick_question()
    async with open_exchange(visitor.commons.address) as exchange:
        headers = {"x-fanout": visitor.pick_mode(), **question.headers}
        await exchange.send("POST", question.path, headers, question.body(stream=True))
        await trio.sleep(visitor.random.uniform(0, question.ttft))
        await visitor.random.choice(DEPARTURES)(exchange)


async def leave_in_the_request(visitor: Visitor) -> None:
    """Leave when only a part of the request is out."""
    body = visitor.pick_question().body(stream=True)
    head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(
        body
    )
    async with open_exchange(visitor.commons.address) as exchange:
        await exchange.send_bytes((head + body)[: visitor.random.randrange(len(head + body))])
        await trio.sleep(visitor.random.uniform(0, HESITATION_SECONDS))
        await visitor.random.choice(DEPARTURES)(exchange)


async def come_back(visitor: Visitor) -> None:
    """Leave and resume, once or more, then read to the end."""
    async with visitor.ask(visitor.pick_question(), visitor.pick_mode()) as stream:
        await _read_some(visitor, stream)
        await visitor.random.choice(DEPARTURES)(stream.exchange)
    for _ in range(visitor.random.randint(0, 2)):
        async with visitor.resume(stream, away=await _stay_away(visitor, stream)) as stream:
            await _read_some(visitor, stream)
            await visitor.random.choice(DEPARTURES)(stream.exchange)
    async with visitor.resume(stream, away=await _stay_away(visitor, stream)) as stream:
        await stream.read_to_end()


async def stall_and_go_on(visitor: Visitor) -> None:
    """Stop reading for a while, then read to the end."""
    question = draw_long_question(visitor.random, visitor.commons.next_prompt())
    async with visitor.ask(question, receive_buffer=SMALL_BUFFER) as stream:
        await _read_some(visitor, stream)
        await trio.sleep(visitor.random.uniform(0, SHORT_STALL_SECONDS))
        await stream.read_to_end()


async def stall_and_vanish(visitor: Visitor) -> None:
    """Stop reading, and leave without reading on; the proxy may have cut it by then."""
    question = draw_long_question(visitor.random, visitor.commons.next_prompt())
    async with visitor.ask(question, receive_buffer=SMALL_BUFFER) as stream:
        await _read_some(visitor, stream)
        await trio.sleep(visitor.random.uniform(0, LONG_STALL_SECONDS))
        await visitor.random.choice(DEPARTURES)(stream.exchange)


async def stop(visitor: Visitor) -> None:
    """Stop the generation for everyone, and read what is told of that."""
    async with visitor.ask(visitor.pick_question(), visitor.pick_mode()) as stream:
        await _read_some(visitor, stream)
        generation_id = stream.reading.generation_id
        visitor.commons.stopped.add(generation_id)
        status, _ = await visitor.call("DELETE", f"/v1/generations/{generation_id}", {})
        if status != 200:
            raise Violation(f"status {status} for stopping {generation_id}, which is being read")
        await stream.read_to_end()


async def ask_whole(visitor: Visitor) -> None:
    """Ask for no stream, and wait for the whole answer."""
    question = visitor.pick_question()
    headers = {"x-fanout": visitor.pick_mode(), **question.headers}
    status, body = await visitor.call("POST", question.path, headers, question.body(stream=False))
    if status != question.whole_status:
        raise Violation(f"status {status} of a whole answer, not {question.whole_status}")
    if question.fault is None and status == 200:
        [choice] = json.loads(body)["choices"]
        text = choice["message"]["content"] if question.is_chat else choice["text"]
        if text != question.whole_text:
            raise Violation(f"a whole answer that is not the engine's: {text[:80]!r}")


async def leave_whole(visitor: Visitor) -> None:
    """Ask for no stream, and leave before the answer."""
    question = visitor.pick_question()
    async with open_exchange(visitor.commons.address) as exchange:
        headers = {"x-fanout": visitor.pick_mode(), **question.headers}
        await exchange.send("POST", question.path, headers, question.body(stream=False))
        await trio.sleep(visitor.random.uniform(0, HESITATION_SECONDS))
        await visitor.random.choice(DEPARTURES)(exchange)


async def create_and_read(visitor: Visitor) -> None:
    """Start a generation without reading it, and come for it within its linger."""
    question = visitor.commons.new_question(visitor.random)
    path = await _create(visitor, question)
    await trio.sleep(visitor.random.uniform(0, CREATE_LINGER_SECONDS / 2))
    if question.refusal is not None:
        return  # there is no stream to come for
    async with visitor.read_created(question, path) as stream:
        await stream.read_to_end()


async def create_and_forget(visitor: Visitor) -> None:
    """Start a generation and never come for it: it ends with its linger."""
    await _create(visitor, visitor.commons.new_question(visitor.random))


BEHAVIOURS: dict[Callable[[Visitor], Awaitable[None]], int] = {
    stay: 25,
    leave: 20,
    leave_together: 6,
    leave_before_the_answer: 8,
    leave_in_the_request: 4,
    come_back: 15,
    stall_and_go_on: 1,
    stall_and_vanish: 1,
    stop: 8,
    ask_whole: 6,
    leave_whole: 3,
    create_and_read: 5,
    create_and_forget: 2,
}
"""Each behaviour and its weight."""


async def _read_and_leave(visitor: Visitor, question: Question) -> None:
    async with visitor.ask(question) as stream:
        await stream.read(visitor.random.randint(0, MAX_EVENTS_TOGETHER))
        await visitor.random.choice(DEPARTURES)(stream.exchange)


async def _read_some(visitor: Visitor, stream: Stream) -> None:
    await stream.read(visitor.random.randint(0, len(stream.question.texts)))


async def _stay_away(visitor: Visitor, stream: Stream) -> float:
    """Stay away, mostly for less than the linger, at times for longer than the retention; return
    for how many seconds."""
    longest = visitor.random.choices(
        (stream.question.linger / 2, AWAY_SECONDS, visitor.commons.retention + 2), (5, 4, 1)
    )[0]
    seconds = visitor.random.uniform(0, longest)
    left_at = trio.current_time()
    await trio.sleep(seconds)
    return trio.current_time() - left_at


async def _create(visitor: Visitor, question: Question) -> str:
    """The path of a generation that was started for nobody."""
    creation = {
        "path": question.path,
        "body": json.loads(question.body(stream=True)),
        "linger": CREATE_LINGER_SECONDS,
    }
    status, body = await visitor.call(
        "POST", "/v1/generations", question.headers, json.dumps(creation).encode()
    )
    if status != 201:
        raise Violation(f"status {status} for a creation")
    return f"/v1/generations/{json.loads(body)['id']}"
