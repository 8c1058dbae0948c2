"""Any order of arrivals, joins, reads and leaves, against a list of everything that came."""

from __future__ import annotations

from contextlib import ExitStack

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from tests.support.reading import Reading
from tests.support.source import ScriptedSource
from trioproxy.fanout import COMPLETED, Event, Gap, Hub, Limits, Subscriber, open_hub

OPERATIONS = st.one_of(
    st.tuples(st.just("arrive"), st.integers(1, 5)),
    st.tuples(st.just("arrive"), st.integers(100, 500)),
    st.tuples(st.just("join and follow"), st.integers(0, 99)),
    st.tuples(st.just("join and read now and then"), st.integers(0, 99)),
    st.tuples(st.just("read"), st.integers(0, 99)),
    st.tuples(st.just("leave"), st.integers(0, 99)),
    st.tuples(st.just("let the others run"), st.just(0)),
)


class Reader:
    """A subscriber, where it began, and what it has been told since."""

    def __init__(self, hub: Hub, source: ScriptedSource, percent: int) -> None:
        self.leave = ExitStack()
        generation = hub.find("key")
        self.after = generation.transcript.last * percent // 100 if generation else 0
        self.subscriber: Subscriber = self.leave.enter_context(
            hub.join("key", source, after=self.after)
        )
        self.reading = Reading()

    async def read_what_there_is(self) -> None:
        if self.subscriber.cursor < self.subscriber.generation.transcript.last:
            batch = await anext(self.subscriber)
            self.reading.told.extend(([batch.gap] if batch.gap else []) + batch.events)

    async def follow(self) -> None:
        with self.leave:
            await self.reading.follow(self.subscriber)

    def check(self, model: list[bytes]) -> None:
        told = self.reading.accounted
        assert list(range(self.after + 1, self.after + 1 + len(told))) == told
        for event in self.reading.told:
            match event:
                case Event(seq=seq, data=data):
                    assert model[seq - 1] == data
                case Gap(first=first, last=last):
                    assert first <= last


@settings(deadline=None, max_examples=150)
@given(
    st.lists(OPERATIONS, max_size=30),
    st.sampled_from([Limits(), Limits(max_transcript_bytes=2_000), Limits(max_hub_bytes=2_000)]),
)
async def test_every_reader_accounts_for_every_event_from_its_cursor_to_the_end(
    operations: list[tuple[str, int]], limits: Limits
) -> None:
    source = ScriptedSource()
    model: list[bytes] = []
    readers: list[Reader] = []
    slow: list[Reader] = []
    gone: list[Reader] = []
    async with open_hub(limits) as hub, trio.open_nursery() as nursery:
        hub.start("key", source, linger=30)
        for operation, number in operations:
            match operation:
                case "arrive":
                    messages = [b"%d" % (len(model) + n) for n in range(number)]
                    model += messages
                    source.arrive(*messages)
                case "join and follow":
                    readers.append(Reader(hub, source, number))
                    nursery.start_soon(readers[-1].follow)
                case "join and read now and then":
                    readers.append(Reader(hub, source, number))
                    slow.append(readers[-1])
                case "read" if slow:
                    await slow[number % len(slow)].read_what_there_is()
                case "leave" if slow:
                    gone.append(slow.pop(number % len(slow)))
                    gone[-1].leave.close()
                case _:
                    await wait_all_tasks_blocked()
        source.complete()
        model.append(b"[DONE]")
        for reader in slow:
            nursery.start_soon(reader.follow)

    for reader in readers:
        reader.check(model)
        if reader not in gone:
            assert reader.reading.end == COMPLETED
            assert len(model) == reader.after + len(reader.reading.accounted)
