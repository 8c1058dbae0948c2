"""Nodes that share a broker in memory, with sources that say what a test lets them say."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager

import trio

from tests.support.source import DONE, ScriptedSource
from trioproxy.cluster import Broker, Lease, NodeWatch, Ref, Terms
from trioproxy.cluster.following import Followed
from trioproxy.cluster.node import Node, open_node
from trioproxy.cluster.parting import NOTICE
from trioproxy.fanout import (
    COMPLETED,
    FanoutError,
    Generation,
    Identity,
    Outcome,
    ShareOf,
    SourceFailed,
    Subscriber,
    Watch,
)
from trioproxy.testing.broker import FakeBroker
from trioproxy.wire import Message

REQUEST = "ab" * 16
TERMS = Terms(lease=6.0)

TEST_SECONDS = 7200.0
"""Mostly virtual, in which a test is through: a node's clockwork alone never ends."""


class PlainCodec:
    """Heads are bytes, and errors their words."""

    def pack_head(self, head: object) -> bytes:
        assert isinstance(head, bytes)
        return head

    def unpack_head(self, data: bytes) -> object:
        return data

    def pack_error(self, error: Exception) -> bytes:
        return str(error).encode()

    def unpack_error(self, data: bytes) -> SourceFailed:
        return SourceFailed("elsewhere", data.decode())

    def alias(self, generation: Generation) -> str | None:
        return None


class Told(Watch):
    """Tells a node what happens to a generation."""

    def __init__(self, node: Callable[[], Node], generation: Generation) -> None:
        self._node = node
        self._generation = generation

    def started(self) -> None:
        self._node().started(self._generation)

    def left(self, subscriber: Subscriber) -> None:
        self._node().left(self._generation)

    def outlives(self) -> None:
        self._node().outlives(self._generation)

    def ended(self) -> None:
        self._node().ended(self._generation)


class Member:
    """A node, and the sources of the calls that it made. ``entering`` is awaited where a call is
    made."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.entering: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint
        self.calls: list[ScriptedSource] = []

    @asynccontextmanager
    async def reading(
        self, request: str = REQUEST, linger: float = 0.0
    ) -> AsyncGenerator[Subscriber]:
        """Join the request, as one that shares, for the length of the block."""
        with ExitStack() as stack:
            async with self.node.turn(request):
                if self.node.hub.find(request) is None:
                    async with self.node.place(request, b"about") as placed:
                        subscriber = stack.enter_context(self._join(request, placed, linger))
                else:
                    subscriber = stack.enter_context(
                        self.node.hub.join(request, ScriptedSource(), linger=linger)
                    )
            yield subscriber

    @contextmanager
    def _join(self, request: str, placed: Lease | Followed, linger: float) -> Generator[Subscriber]:
        public_id = placed.ref.public_id
        if isinstance(placed, Lease):
            source = ScriptedSource(head=b"head", entering=self.entering)
            self.calls.append(source)
            identity = Identity(public_id, notice=NOTICE)
        else:
            source = self.node.mirror(placed, _outcome)
            identity = Identity(public_id, is_replica=True)
        with self.node.hub.join(request, source, linger=linger, identity=identity) as subscriber:
            yield subscriber

    @asynccontextmanager
    async def reading_by_id(self, public_id: str) -> AsyncGenerator[Subscriber]:
        """Read what is here, or a replica of it."""
        ref = Ref.parse(public_id)
        assert ref is not None
        with ExitStack() as stack:
            async with self.node.turn(ref.request):
                if self._is_here(public_id):
                    subscriber = stack.enter_context(self.node.hub.subscribe(public_id))
                else:
                    is_other = self.node.hub.find(ref.request) is not None
                    key = public_id if is_other else ref.request
                    async with self.node.reach(ref) as followed:
                        subscriber = stack.enter_context(self._join(key, followed, 0.0))
            yield subscriber

    def _is_here(self, public_id: str) -> bool:
        try:
            outcome = self.node.hub.get(public_id).outcome
        except FanoutError:
            return False
        return outcome is None or outcome.reason != "broker_lost"


@asynccontextmanager
async def open_member(
    broker: FakeBroker,
    name: str,
    *,
    beside: Sequence[FakeBroker] = (),
    always: bool = False,
    terms: Terms = TERMS,
    node_watch: NodeWatch | None = None,
    share_of: ShareOf | None = None,
) -> AsyncGenerator[Member]:
    """A node. ``beside`` are the brokers of the other lanes."""
    ports = [each.port(name, terms) for each in (broker, *beside)]
    opening = open_member_at(ports, always=always, node_watch=node_watch, share_of=share_of)
    async with opening as member:
        yield member


@asynccontextmanager
async def open_member_at(
    brokers: Sequence[Broker],
    *,
    always: bool = False,
    node_watch: NodeWatch | None = None,
    share_of: ShareOf | None = None,
) -> AsyncGenerator[Member]:
    with trio.fail_after(TEST_SECONDS):
        async with open_node(
            brokers,
            PlainCodec(),
            watch=lambda generation: Told(lambda: node, generation),
            always=always,
            node_watch=node_watch or NodeWatch(),
            share_of=share_of,
        ) as node:
            yield Member(node)


@asynccontextmanager
async def open_members(
    broker: FakeBroker,
    number: int = 3,
    *,
    beside: Sequence[FakeBroker] = (),
    always: bool = False,
    share_of: ShareOf | None = None,
) -> AsyncGenerator[list[Member]]:
    """So many, on one broker whose memory is not new any more."""
    async with AsyncExitStack() as stack:
        members = [
            await stack.enter_async_context(
                open_member(broker, f"node{index}", beside=beside, always=always, share_of=share_of)
            )
            for index in range(number)
        ]
        await trio.sleep(TERMS.lease)
        yield members


def _outcome(message: Message) -> Outcome | None:
    return COMPLETED if message.data == DONE.data else None
