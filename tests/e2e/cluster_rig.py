"""A cluster of processes: an engine, a broker, and nodes, each with a gate before the broker."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from itertools import count, pairwise
from typing import NamedTuple

import trio

from benchmarks.cluster.gate import Gate, open_gate
from tests.cluster.servers import Server, run_server
from tests.e2e.commands import Census, Proxy, Simulator, open_proxy, open_simulator
from tests.e2e.polling import fetch, wait_equal
from tests.e2e.streams import COMPLETION, COMPLETIONS, DONE, REPLAY
from tests.support.rawhttp import RawClient, open_client, post_stream
from tests.support.sse import SseEvent

LEASE = 1.5
HEARTBEAT = LEASE / 4
SLACK = 2.0
"""Seconds that a busy machine may take beside what is promised: what would come true without the
promise, by a time to live or the patience of readers, takes ten times as long."""

CONNECTIONS = 2
"""Of a node to the broker."""

RETENTION = 20.0

PATIENCE = 60.0
"""Seconds that a reader waits for the next event."""

RATE = 50
"""Tokens a second."""

NUMBERS = count(1)


class Node:
    """A proxy that is a node. ``at_rest`` is what it held before its first client came, but for
    what it has as a node of a cluster that is well."""

    def __init__(self, proxy: Proxy, gate: Gate, at_rest: Census) -> None:
        self.proxy = proxy
        self.gate = gate
        self.at_rest = at_rest

    @property
    def url(self) -> str:
        return self.proxy.url

    @property
    def is_alive(self) -> bool:
        return self.proxy.process.poll() is None

    def kill(self) -> None:
        """As a machine that loses its power."""
        self.proxy.process.kill()
        self.proxy.process.wait()

    @contextmanager
    def stopped(self) -> Generator[None]:
        """As a machine that hangs, for the length of the block."""
        self.proxy.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.proxy.process.send_signal(signal.SIGCONT)

    @contextmanager
    def partitioned(self) -> Generator[None]:
        """Nothing passes between it and the broker, for the length of the block."""
        self.gate.hold()
        try:
            yield
        finally:
            self.gate.open()

    async def wait_ready(self) -> None:
        """Wait until it would place calls, if it refuses to make them unasked."""

        async def measure() -> int:
            async with open_client(self.url) as client:
                await client.request("GET", "/readyz")
                return (await client.response_head()).status

        await wait_equal(200, measure, what="its readiness", within=10)


class Rig:
    """Nodes of one cluster. Those that a test has killed are replaced by :meth:`mend`."""

    def __init__(self, engine: Simulator, broker: Server, start: Callable[..., Node]) -> None:
        self.engine = engine
        self.broker = broker
        self.nodes: list[Node] = []
        self._start = start

    def mend(self, number: int) -> None:
        """Have so many nodes that are alive. Blocks while they start."""
        self.nodes = [node for node in self.nodes if node.is_alive]
        while len(self.nodes) < number:
            self.add()

    def add(self, *options: str) -> None:
        """Another node, with options that the others do not have. Blocks while it starts."""
        self.nodes.append(self._start(*options))

    async def settle(self) -> None:
        """Wait until all nodes judge and are judged, whatever was before."""
        for node in self.nodes:
            await node.wait_ready()
        await trio.sleep(1.5 * LEASE)

    async def calls(self, prompt: str) -> list[Call]:
        """The calls that the engine was asked for this prompt, oldest first."""
        records = json.loads(await fetch(self.engine.url, "/calls"))
        return [
            Call(
                record["outcome"],
                record["began_unix_ns"] / 1e9,
                (record["ended_unix_ns"] or 0) / 1e9,
            )
            for record in records
            if record["prompt"] == prompt
        ]

    async def wait_ended(self, prompt: str, *, within: float) -> float:
        """Wait until the engine answers no call for this prompt; when the last one ended, as
        :func:`time.time` tells it."""

        async def active() -> int:
            return sum(call.outcome == "active" for call in await self.calls(prompt))

        await wait_equal(0, active, what="calls that are being answered", within=within)
        return max(call.ended_at for call in await self.calls(prompt))

    async def wait_at_rest(self) -> None:
        """Wait until the engine has no call, and no node that is alive holds more than at first."""
        await self.engine.wait_active(0, within=10)
        for node in self.nodes:
            if node.is_alive:
                await node.proxy.wait_census(node.at_rest, within=10)


class Call(NamedTuple):
    """A call as the engine saw it. Times as :func:`time.time` tells them; 0 where it goes on."""

    outcome: str
    began_at: float
    ended_at: float


class Reader:
    """What one reader has read, and when (in trio's time). ``error`` is the code of the one that it
    was told; ``is_over`` says that the body has ended as it must."""

    def __init__(self) -> None:
        self.generation_id = ""
        self.events: list[SseEvent] = []
        self.times: list[float] = []
        self.errors: list[str] = []
        self.is_over = False
        self.is_gone = False
        self.ended_at = 0.0

    @property
    def seqs(self) -> list[int]:
        """The numbers of the events that it was handed."""
        return [int(event.id.rpartition(":")[2]) for event in self.events if event.id is not None]

    @property
    def longest_gap(self) -> float:
        """Between two events, in seconds."""
        return max(later - earlier for earlier, later in pairwise(self.times))

    async def read(self, client: RawClient) -> None:
        """Read to the end."""
        self.generation_id = client.head.headers["x-generation-id"]
        while (event := await client.next_event(within=PATIENCE)) is not None:
            if event.data.startswith(b'{"error"'):
                self.errors.append(json.loads(event.data)["error"]["code"])
            else:
                self.events.append(event)
                self.times.append(trio.current_time())
        self.ended_at = trio.current_time()
        self.is_over = client.ended_properly

    async def wait_events(self, number: int, *, within: float = 10.0) -> None:
        """Wait until it has read so many events, or more."""

        async def measure() -> bool:
            return len(self.events) >= number

        await wait_equal(True, measure, what=f"{number} events were read", within=within)

    async def wait_over(self, *, within: float) -> None:
        """Wait until its body has ended as it must."""

        async def measure() -> bool:
            return self.is_over

        await wait_equal(True, measure, what="the stream is over", within=within)

    async def wait_gone(self, *, within: float = 10.0) -> None:
        """Wait until it has left, or its body has ended."""

        async def measure() -> bool:
            return self.is_gone

        await wait_equal(True, measure, what="the reader has left", within=within)

    def assert_dense(self) -> None:
        """No event is missing from the first on, and none came twice; what has no number is
        ``[DONE]``."""
        assert self.seqs == list(range(1, len(self.seqs) + 1))
        assert all(event.data == DONE for event in self.events if event.id is None)


class Readers:
    """Readers whose tasks are of one nursery."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    async def join(
        self, node: Node, prompt: str, headers: Mapping[str, str] = REPLAY, **body: object
    ) -> tuple[Reader, Callable[[], None]]:
        """One that reads the answer to this prompt at a node, and has its head; and what has it
        leave."""
        return await self._nursery.start(self._run, node, prompt, headers, body)

    async def _run(
        self,
        node: Node,
        prompt: str,
        headers: Mapping[str, str],
        body: Mapping[str, object],
        *,
        task_status: trio.TaskStatus[tuple[Reader, Callable[[], None]]],
    ) -> None:
        reader = Reader()
        question = COMPLETION | {"prompt": prompt} | body
        with trio.CancelScope() as scope:
            async with post_stream(node.url, COMPLETIONS, question, headers) as client:
                task_status.started((reader, partial(scope.cancel, reason="it leaves")))
                await reader.read(client)
        reader.is_gone = True


@asynccontextmanager
async def open_readers() -> AsyncGenerator[Readers]:
    """Readers that leave with the block, where they have not."""
    async with trio.open_nursery() as nursery:
        yield Readers(nursery)
        nursery.cancel_scope.cancel(reason="all leave")


@contextmanager
def open_rig(nodes: int, *options: str) -> Generator[Rig]:
    """So many nodes, with these options, and what they need. Blocks while they start and end."""
    with (
        open_simulator("--rate", str(RATE), "--tokens", "100000", "--ttft", "0") as engine,
        run_server("valkey") as broker,
        ExitStack() as stack,
    ):

        def start(*others: str) -> Node:
            gate = stack.enter_context(open_gate(broker.port))
            proxy = stack.enter_context(
                open_proxy(
                    engine.url,
                    *("--cluster", gate.url, "--cluster-lease", str(LEASE), "--drain", "1"),
                    *("--retention", str(RETENTION), *options, *others),
                    may_be_killed=True,
                )
            )
            return Node(proxy, gate, trio.run(_at_rest, proxy, gate))

        rig = Rig(engine, broker, start)
        rig.mend(nodes)
        yield rig


async def _at_rest(proxy: Proxy, gate: Gate) -> Census:
    """What a node holds once it is connected, and has nothing to do."""
    census: Census = {}

    async def is_steady() -> bool:
        nonlocal census
        before, census = census, await proxy.census()
        return gate.connections == CONNECTIONS and before == census

    await wait_equal(True, is_steady, what="it is at rest", within=10, every=0.05)
    return census


def fresh_prompt() -> str:
    """One that nobody has asked before."""
    return f"question {next(NUMBERS)}"
