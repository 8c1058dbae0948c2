"""Which upstreams there are, by the settings, and the tasks that look after them."""

from __future__ import annotations

import math
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from trioproxy.config import RouteEntry, Settings, TargetEntry, UpstreamEntry
from trioproxy.upstream.breaker import Breaker
from trioproxy.upstream.errors import UnknownModel
from trioproxy.upstream.health import any_lives, watch_health
from trioproxy.upstream.route import Member, Route, Target
from trioproxy.upstream.standing import Standing
from trioproxy.upstream.upstream import Timeouts, Upstream

SINGLE = "upstream"
"""The name of one that needs none."""


@asynccontextmanager
async def open_roster(settings: Settings, *, upstream_url: str | None) -> AsyncGenerator[Roster]:
    """The upstreams of the settings, each looked after for the length of the block;
    ``upstream_url`` is of one that they do not name. On exit what is kept of their connections is
    closed."""
    async with trio.open_nursery() as nursery:
        roster = Roster(nursery, upstream_url)
        roster.configure(settings)
        yield roster
        nursery.cancel_scope.cancel(reason="the upstreams are no longer called")


@dataclass(frozen=True, slots=True)
class _Recipe:
    """All that an upstream is made of."""

    entry: UpstreamEntry
    timeouts: Timeouts
    forward_credentials: bool
    max_event_bytes: int
    trust_env: bool
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class _Attended:
    """A member, what it was made of, and the scope of who looks after it."""

    member: Member
    made_of: _Recipe
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Roster:
    """The ``members``, by name, and the routes that lead to them."""

    def __init__(self, nursery: trio.Nursery, upstream_url: str | None) -> None:
        self._nursery = nursery
        self._upstream_url = upstream_url
        self._attended: dict[str, _Attended] = {}
        self._former: list[Upstream] = []
        self._routes: Sequence[Route] = ()

    @property
    def members(self) -> list[Member]:
        return [attended.member for attended in self._attended.values()]

    @property
    def open_calls(self) -> int:
        """The calls that hold, or are getting, a connection, those of former members included."""
        upstreams = [*self._former, *(member.upstream for member in self.members)]
        return sum(upstream.open_calls for upstream in upstreams)

    async def is_ready(self) -> bool:
        """Whether there is one that may be called, and that lives. If cancelled, nothing has
        changed."""
        members = [member for member in self.members if member.standing.is_available]
        return await any_lives(member.upstream for member in members)

    @property
    def is_single(self) -> bool:
        """Whether there is one upstream, which gets whatever comes as it is."""
        if len(self._routes) != 1 or len(self._attended) != 1:
            return False
        route = self._routes[0]
        return route.pattern == "*" and route.targets[0].model is None

    @property
    def routes(self) -> Sequence[Route]:
        return self._routes

    def configure(self, settings: Settings) -> None:
        """Be as the settings say, from the next call on. One of which they say what they said
        before stays as it is, and calls that are under way end as they would have."""
        entries, routes = _tables(settings, self._upstream_url)
        before, self._attended = self._attended, {}
        for entry in entries:
            recipe = _recipe(entry, settings)
            attended = before.get(entry.name)
            if attended is None or attended.made_of != recipe:
                attended = _Attended(_make(recipe), recipe)
                self._nursery.start_soon(_attend, attended, name=f"upstream {entry.name}")
            self._attended[entry.name] = attended
        self._former = [upstream for upstream in self._former if upstream.open_calls]
        for name, attended in before.items():
            if self._attended.get(name) is not attended:
                attended.scope.cancel(reason="no longer configured")
                self._former.append(attended.member.upstream)
        self._routes = [
            Route(
                route.model,
                [
                    Target(self._attended[to.upstream].member, to.weight, to.model)
                    for to in route.to
                ],
                route.retries,
            )
            for route in routes
        ]

    def route_for(self, model: str | None) -> Route:
        """The first route that is for the model, None being one without a name. Raises
        :class:`UnknownModel`."""
        for route in self._routes:
            if route.matches(model or ""):
                return route
        raise UnknownModel(f"there is no model {model!r} here" if model else "name a model")

    def default_route_for(self, model: str | None) -> Route:
        """The same for what may have nothing to do with a model: failing that, the first route."""
        try:
            return self.route_for(model)
        except UnknownModel:
            if model:
                raise
            return self._routes[0]


def _tables(
    settings: Settings, upstream_url: str | None
) -> tuple[Sequence[UpstreamEntry], Sequence[RouteEntry]]:
    """The tables of the settings; and what they would be that say nothing."""
    gateway = settings.gateway
    if not gateway.upstreams:
        url = settings.upstream or upstream_url
        assert url is not None
        # There is nobody to turn to, and the official clients try again by themselves.
        single = UpstreamEntry(
            name=SINGLE,
            url=url,
            key=settings.upstream_key,
            breaker_failures=sys.maxsize,
        )
        return [single], [RouteEntry(model="*", to=(TargetEntry(upstream=SINGLE),), retries=0)]
    to = tuple(TargetEntry(upstream=upstream.name) for upstream in gateway.upstreams)
    return gateway.upstreams, gateway.routes or [RouteEntry(model="*", to=to)]


def _recipe(entry: UpstreamEntry, settings: Settings) -> _Recipe:
    timeouts = Timeouts(
        connect=entry.connect_timeout or settings.connect_timeout,
        first_token=entry.first_token_timeout or settings.first_token_timeout,
        inter_token=entry.inter_token_timeout or settings.inter_token_timeout,
    )
    return _Recipe(
        entry,
        timeouts,
        # Where there are tenants, their keys are for this proxy only.
        settings.gateway.is_open,
        settings.max_event,
        settings.trust_env,
        settings.upstream_keep_alive,
    )


def _make(recipe: _Recipe) -> Member:
    entry = recipe.entry
    upstream = Upstream(
        entry.url,
        name=entry.name,
        key=entry.key,
        headers=entry.headers,
        forward_credentials=recipe.forward_credentials,
        timeouts=recipe.timeouts,
        max_event_bytes=recipe.max_event_bytes,
        trust_env=recipe.trust_env,
        max_connections=math.inf if entry.max_calls is None else entry.max_calls,
        max_waiting=entry.max_queue,
        idle_seconds=recipe.idle_seconds,
    )
    breaker = Breaker(entry.breaker_failures, entry.breaker_seconds)
    return Member(upstream, Standing(breaker))


async def _attend(attended: _Attended) -> None:
    """Keep the upstream's connections, and see how it is, until the scope is cancelled."""
    entry, member = attended.made_of.entry, attended.member
    with attended.scope:
        async with member.upstream.keep_alive():
            if entry.health is None:
                await trio.sleep_forever()
            await watch_health(member, entry.health, entry.health_interval)
