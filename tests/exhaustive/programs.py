"""Programs of what clients, the engine and the clock do to a proxy, and the model of what must be
seen.

Everything is played over HTTP on a virtual network. An operation names its object by a number, so
that every list of operations is a program, and what is left of a failing one is short. The model
is small: who reads which call, what each call has said, and how it ended.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

import h11
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.rawhttp import RawClient, open_client
from tests.support.sse import SseEvent
from trioproxy.config import Settings
from trioproxy.serving import Proxy
from trioproxy.serving.connection import Connection
from trioproxy.testing.network import VirtualNetwork
from trioproxy.testing.proxy import open_virtual_proxy
from trioproxy.testing.upstream import ScriptedUpstream, UpstreamCall, open_upstream, sse

PATH = "/v1/completions"
BUFFER = 4_000
"""Bytes that a connection holds, so that a reader who stalls is soon felt."""
WRITE_TIMEOUT = 10.0
LINGER = 5.0
LONG = 100.0
"""Seconds in which every linger, timeout and tidying is over."""


class Operation(NamedTuple):
    """What is done, to which (or for how many seconds), and whether everyone else is then waited
    for."""

    name: str
    argument: float
    settles: bool


@dataclass(eq=False)
class Call:
    """One call as the engine knows it: what it has said of it, and how it ended it."""

    number: int
    prompt: int
    upstream: UpstreamCall
    said: list[bytes] = field(default_factory=list)
    end: str | None = None
    has_begun: bool = False
    is_left: bool = False

    def next_event(self) -> bytes:
        self.said.append(json.dumps({"call": self.number, "n": len(self.said) + 1}).encode())
        return self.said[-1]


@dataclass(eq=False)
class Viewer:
    """One client, and what it saw."""

    prompt: int
    target: str = PATH
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    after: int | None = 0
    """The seq before the first that it must see; None where it may begin anywhere."""
    must_join: bool = False
    must_miss: bool = False
    client: RawClient | None = None
    may_read: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    status: int | None = None
    cache: str | None = None
    generation_id: str | None = None
    events: list[SseEvent] = field(default_factory=list)
    refusal: bytes = b""
    ended_properly: bool = False
    has_ended: bool = False
    has_left: bool = False
    may_be_cut: bool = False

    @property
    def is_watching(self) -> bool:
        return not (self.has_left or self.has_ended)

    @property
    def last_seq(self) -> int:
        return max((seq_of(event) for event in self.events), default=0)

    async def watch(self, url: str) -> None:
        body = json.dumps({"prompt": f"prompt {self.prompt}", "stream": True}).encode()
        with self.scope, suppress(*GONE):
            async with open_client(url) as self.client:
                await self.client.request(
                    self.method,
                    self.target,
                    headers=self.headers,
                    body=body if self.method == "POST" else b"",
                    within=math.inf,
                )
                head = await self.client.response_head(within=math.inf)
                self.status = head.status
                self.cache = head.headers.get("x-cache")
                self.generation_id = head.headers.get("x-generation-id")
                if head.status != 200 or self.method == "DELETE":
                    self.refusal = await self.client.body(within=math.inf)
                else:
                    await self._read_events(self.client)
                self.ended_properly = self.client.ended_properly
        self.has_ended = True

    async def _read_events(self, client: RawClient) -> None:
        while True:
            await self.may_read.wait()
            event = await client.next_event(within=math.inf)
            if event is None:
                return
            self.events.append(event)

    def leave(self, *, by_reset: bool) -> None:
        self.has_left = True
        if self.client is None:
            self.scope.cancel(reason="left before it was connected")
        elif by_reset:
            with suppress(OSError):
                self.client.reset()
        else:
            self.client.close()


GONE = (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError, OSError)


def seq_of(event: SseEvent) -> int:
    return int(event.id.rpartition(":")[2]) if event.id else 0


class World:
    """A proxy, an engine and viewers. Its operations are synchronous but for those on time."""

    def __init__(
        self, network: VirtualNetwork, proxy: Proxy, upstream: ScriptedUpstream, tasks: trio.Nursery
    ) -> None:
        self.network = network
        self.proxy = proxy
        self.upstream = upstream
        self.viewers: list[Viewer] = []
        self.calls: list[Call] = []
        self.lingering: set[int] = set()
        self._tasks = tasks
        self._is_settled = True

    async def answer_calls(self) -> None:
        """Take each call as it comes; what it says is up to the program."""
        while True:
            upstream = await self.upstream.next_call(within=math.inf)
            prompt = int(json.loads(upstream.body)["prompt"].split()[1])
            call = Call(len(self.calls) + 1, prompt, upstream)
            self.calls.append(call)
            self._tasks.start_soon(self._notice_departure, call)

    async def _notice_departure(self, call: Call) -> None:
        with suppress(*GONE):
            await call.upstream.wait_departure(within=math.inf)
        call.is_left = True

    async def perform(self, operation: Operation) -> None:
        """One operation. What it names and is not there, it does not touch."""
        name, argument, settles = operation
        number = int(argument)
        if not self._is_settled:
            # What has not been answered yet is overtaken by this, or not.
            for viewer in self.viewers:
                if viewer.status is None:
                    viewer.must_join = viewer.must_miss = False
        match name:
            case "start" | "join" | "live" | "linger":
                self._join(name, prompt=number % 2)
            case "leave" | "reset" | "stall" | "go on" | "resume" | "reload" | "stop":
                if self.viewers:
                    self._move(name, self.viewers[number % len(self.viewers)])
            case "head" | "say" | "say much" | "fail" | "truncate" | "cut" | "finish":
                open_calls = [call for call in self.calls if call.end is None]
                if open_calls:
                    await self._say(name, open_calls[number % len(open_calls)])
            case "kill":
                served = [one for one in self.proxy.server.connections if one.peer]
                connections = sorted(served, key=attrgetter("peer"))
                if connections:
                    self._kill(connections[number % len(connections)])
            case "clock":
                await trio.sleep(argument)
            case _:
                raise ValueError(name)
        if settles:
            await wait_all_tasks_blocked()
        self._is_settled = settles

    def _kill(self, connection: Connection) -> None:
        for viewer in self.viewers:
            if viewer.client is not None and viewer.is_watching:
                viewer.may_be_cut |= viewer.client.address == connection.peer
        connection.kill()

    # -- clients -----------------------------------------------------------------------------------

    def _join(self, how: str, *, prompt: int) -> None:
        viewer = Viewer(prompt)
        readers = [other for other in self.viewers if other.prompt == prompt]
        if how == "start":
            viewer.headers["X-Fanout"] = "private"
            viewer.must_miss = True
        else:
            viewer.headers["X-Fanout"] = "live" if how == "live" else "replay"
            viewer.after = None if how == "live" else 0
            if self._is_settled:
                viewer.must_join = any(self._holds(reader) for reader in readers)
                viewer.must_miss = prompt not in self.lingering and not any(
                    reader.is_watching for reader in readers
                )
        if how == "linger":
            viewer.headers["X-Linger"] = str(LINGER)
            self.lingering.add(prompt)
        self._come(viewer)

    def _holds(self, viewer: Viewer) -> bool:
        """Whether the call that this viewer reads must be running, and be found by its key."""
        call = self.call_of(viewer)
        return (
            viewer.is_watching
            and not viewer.may_be_cut
            and viewer.headers.get("X-Fanout") in ("replay", "live")
            and viewer.cache == "miss"
            and call is not None
            and call.end is None
        )

    def _move(self, how: str, viewer: Viewer) -> None:
        match how:
            case "leave" | "reset" if viewer.is_watching:
                viewer.leave(by_reset=how == "reset")
            case "stall" if viewer.may_read.is_set():
                viewer.may_read = trio.Event()
                viewer.may_be_cut = True
            case "go on":
                viewer.may_read.set()
            case "resume" if viewer.generation_id and viewer.events and not viewer.is_watching:
                after = viewer.last_seq
                cursor = {"Last-Event-ID": f"{viewer.generation_id}:{after}"}
                self._come(Viewer(viewer.prompt, headers=cursor, after=after))
            case "reload" if viewer.generation_id and viewer.events and viewer.is_watching:
                viewer.leave(by_reset=False)
                self._move("resume", viewer)
            case "stop" if viewer.generation_id:
                target = f"/v1/generations/{viewer.generation_id}"
                self._come(Viewer(viewer.prompt, target, "DELETE"))
            case _:
                pass

    def _come(self, viewer: Viewer) -> None:
        viewer.may_read.set()
        self.viewers.append(viewer)
        self._tasks.start_soon(viewer.watch, self.proxy.binds[0])

    # -- the engine --------------------------------------------------------------------------------

    async def _say(self, what: str, call: Call) -> None:
        with suppress(*GONE):
            if not call.has_begun:
                call.has_begun = True
                await call.upstream.start()
            match what:
                case "say":
                    await call.upstream.write(sse(call.next_event()))
                case "say much":
                    await call.upstream.write(sse(*(call.next_event() for _ in range(100))))
                case "fail":
                    call.end = "failed"
                    call.said.append(b'{"error":{"message":"of the engine","type":"server_error"}}')
                    await call.upstream.finish(sse(call.said[-1]))
                case "truncate":
                    call.end = "failed"
                    await call.upstream.finish()
                case "cut":
                    call.end = "failed"
                    call.upstream.cut()
                case "finish":
                    call.end = "completed"
                    call.said.append(b"[DONE]")
                    await call.upstream.finish(sse(call.said[-1]))
                case _:
                    pass

    # -- the end -----------------------------------------------------------------------------------

    async def finish(self) -> None:
        """Let everyone read on, let every call complete, and wait for all of it."""
        for viewer in self.viewers:
            viewer.may_read.set()
        await trio.sleep(1)
        for call in self.calls:
            if call.end is None:
                await self._say("finish", call)
        await trio.sleep(LONG)

    def call_of(self, viewer: Viewer) -> Call | None:
        """The call that a viewer's events are of."""
        for event in viewer.events:
            number = _parse(event.data).get("call")
            if number is not None:
                return self.calls[number - 1]
        return None

    def find_fault(self) -> AssertionError | None:
        """What is not true that must be, once everything is over."""
        try:
            self._check()
        except AssertionError as fault:
            return fault
        return None

    def _check(self) -> None:
        generations: dict[str, int] = {}
        ends: dict[str, set[bool]] = {}
        for viewer in self.viewers:
            assert viewer.has_ended, "a client was never told its end"
            if viewer.method == "DELETE":
                continue
            self._check_sharing(viewer)
            call = self.call_of(viewer)
            if call is not None and viewer.generation_id:
                assert generations.setdefault(viewer.generation_id, call.number) == call.number
                self._check_events(viewer, call)
            if not (viewer.has_left or viewer.may_be_cut):
                self._check_end(viewer, call, ends)
        assert all(len(told) == 1 for told in ends.values()), ends
        assert all(count == 1 for count in Counter(generations.values()).values())
        assert all(call.is_left for call in self.calls), "a call was never closed"
        assert list(self.proxy.hub.running) == []
        assert [
            len(ended.subscribers) for ended in self.proxy.hub.retained if ended.subscribers
        ] == []
        assert self.proxy.roster.open_calls == 0

    def _check_sharing(self, viewer: Viewer) -> None:
        if viewer.cache is not None:
            assert not (viewer.must_join and viewer.cache == "miss"), "a twin was not joined"
            assert not (viewer.must_miss and viewer.cache == "join"), "a dead call was joined"

    def _check_events(self, viewer: Viewer, call: Call) -> None:
        """A dense run from the cursor, and the engine's own bytes."""
        told = [event for event in viewer.events if event.id]
        assert viewer.events[: len(told)] == told, "an event of the engine after one of the proxy"
        first = told[0].id and seq_of(told[0]) if viewer.after is None else viewer.after + 1
        assert [seq_of(event) for event in told] == list(range(first, first + len(told)))
        assert [event.data for event in told] == call.said[first - 1 : first - 1 + len(told)]

    def _check_end(self, viewer: Viewer, call: Call | None, ends: dict[str, set[bool]]) -> None:
        """Exactly one end, the same for all: complete, or an error told once."""
        assert viewer.ended_properly, "a body was cut although its client did nothing"
        if viewer.status != 200:
            assert "error" in _parse(viewer.refusal)
            return
        data = [event.data for event in viewer.events]
        errors = [one for one in data if "error" in _parse(one)]
        assert data.count(b"[DONE]") == 1 or (not data and viewer.after)
        assert len(errors) <= 1
        if viewer.generation_id and data:
            assert data[-1] == b"[DONE]"
            ends.setdefault(viewer.generation_id, set()).add(bool(errors))
        if call is not None and not errors and data:
            assert call.end == "completed"
            assert viewer.last_seq == len(call.said)


def _parse(data: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(data)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


async def run_program(program: list[Operation]) -> None:
    """Play it from an empty proxy to an empty proxy, and check."""
    with VirtualNetwork(buffer_bytes=BUFFER) as network:
        async with open_upstream() as upstream:
            settings = Settings(upstream=upstream.url, write_timeout=WRITE_TIMEOUT)
            async with (
                open_virtual_proxy(network, settings, upstream_url=upstream.url) as proxy,
                trio.open_nursery() as tasks,
            ):
                world = World(network, proxy, upstream, tasks)
                tasks.start_soon(world.answer_calls)
                for operation in program:
                    await world.perform(operation)
                await world.finish()
                fault = world.find_fault()
                tasks.cancel_scope.cancel(reason="the program is over")
    if fault is not None:  # out here, where it is not wrapped in the group of each nursery
        raise fault
        assert list(network.open_endpoints) == []
