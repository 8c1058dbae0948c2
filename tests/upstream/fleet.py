"""Several upstreams in memory, each with a script for each of its calls, and the way to them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import trio

from tests.upstream.calls import REQUEST
from trioproxy.config import Gateway, RouteEntry, Settings, TargetEntry, UpstreamEntry
from trioproxy.fanout import Arrival, Source
from trioproxy.testing.network import VirtualNetwork
from trioproxy.testing.upstream import ScriptedUpstream, UpstreamCall, sse
from trioproxy.upstream import Roster, Router, UpstreamRequest, open_roster
from trioproxy.wire import OPENAI_COMPLETIONS, Tally

Script = Callable[[UpstreamCall], Awaitable[None]]

FIRST_PORT = 8001
FIRST_TOKEN, CONNECT = 5.0, 2.0
"""Seconds that the upstreams of a fleet have."""


def answers(*data: bytes) -> Script:
    """A stream of events, and the terminal one."""

    async def script(call: UpstreamCall) -> None:
        await call.start()
        await call.finish(sse(*data, b"[DONE]"))

    return script


def refuses(status: int, *headers: tuple[str, str]) -> Script:
    async def script(call: UpstreamCall) -> None:
        await call.respond(status, *headers, body=b'{"error":"no"}')

    return script


async def says_nothing(call: UpstreamCall) -> None:
    await trio.sleep_forever()


async def says_its_head_and_nothing(call: UpstreamCall) -> None:
    await call.start()
    await trio.sleep_forever()


async def ends_before_the_first_event(call: UpstreamCall) -> None:
    await call.start()
    await call.finish(b": hello\n\n")


async def cuts(call: UpstreamCall) -> None:
    call.cut()


async def cuts_behind_its_head(call: UpstreamCall) -> None:
    await call.start()
    call.cut()


async def cuts_behind_the_first_event(call: UpstreamCall) -> None:
    await call.start()
    await call.write(sse(b"a"))
    call.cut()


async def answers_with_a_page(call: UpstreamCall) -> None:
    await call.respond(200, ("content-type", "text/html"), body=b"hello")


@dataclass
class Fleet:
    """``calls`` are the names of those that were called, in order, and ``times`` when, in trio's
    time; ``requests`` what they were asked."""

    router: Router
    roster: Roster
    calls: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    requests: list[UpstreamCall] = field(default_factory=list)

    def source(self, model: str | None = "m", request: UpstreamRequest = REQUEST) -> Source:
        """A call that streams."""
        return self.router.stream(model, request, OPENAI_COMPLETIONS, Tally(OPENAI_COMPLETIONS))

    async def read(
        self, model: str | None = "m", request: UpstreamRequest = REQUEST
    ) -> list[bytes]:
        """Make a call that streams, and read it to its end."""
        async with self.source(model, request) as feed:
            arrivals: list[Arrival] = [each async for some in feed for each in some]
        return [arrival.data for arrival in arrivals]

    def standing(self, name: str):
        (found,) = [each for each in self.roster.members if each.upstream.name == name]
        return found.standing


def in_turn(*names: str, retries: int = 2, **models: str) -> RouteEntry:
    """A route for all models that leads to the first, and to the others as long as that cannot
    answer; ``models`` are the names that they have there."""
    to = [
        TargetEntry(upstream=name, weight=float(not place), model=models.get(name))
        for place, name in enumerate(names)
    ]
    return RouteEntry(model="*", to=tuple(to), retries=retries)


@asynccontextmanager
async def open_fleet(
    scripts: Mapping[str, Sequence[Script] | None],
    routes: Sequence[RouteEntry] | None = None,
    *,
    network: VirtualNetwork | None = None,
    **options: Any,
) -> AsyncGenerator[Fleet]:
    """Upstreams of these names. Each call of one gets its next script, the last again and again;
    where there are none, nobody listens. ``options`` are those of each upstream's table;
    ``network`` is one that has been entered."""
    with ExitStack() as stack:
        if network is None:
            stack.enter_context(VirtualNetwork())
        async with trio.open_nursery() as nursery:
            entries = tuple(
                UpstreamEntry(name=name, url=f"http://127.0.0.1:{FIRST_PORT + place}", **options)
                for place, name in enumerate(scripts)
            )
            settings = Settings(
                connect_timeout=CONNECT,
                first_token_timeout=FIRST_TOKEN,
                gateway=Gateway(upstreams=entries, routes=tuple(routes or [in_turn(*scripts)])),
            )
            async with open_roster(settings, upstream_url=None) as roster:
                fleet = Fleet(Router(roster), roster)
                for place, (name, lines) in enumerate(scripts.items()):
                    if lines is not None:
                        upstream = stack.enter_context(ScriptedUpstream(name))
                        port = FIRST_PORT + place
                        await nursery.start(trio.serve_tcp, upstream.serve_client, port)
                        nursery.start_soon(_play, fleet, name, upstream, list(lines), nursery)
                yield fleet
            nursery.cancel_scope.cancel(reason="the fleet is gone")


async def _play(
    fleet: Fleet, name: str, upstream: ScriptedUpstream, lines: list[Script], nursery: trio.Nursery
) -> None:
    while True:
        call = await upstream.next_call(within=float("inf"))
        fleet.calls.append(name)
        fleet.times.append(trio.current_time())
        fleet.requests.append(call)
        nursery.start_soon(_speak, lines.pop(0) if len(lines) > 1 else lines[0], call)


async def _speak(script: Script, call: UpstreamCall) -> None:
    """That its caller leaves meanwhile is no concern of a script."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await script(call)
