"""Which upstreams there are, by the settings, and the tasks that look after them."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import trio

from trioproxy.config import ConfigError, RouteEntry, Settings, TargetEntry, UpstreamEntry
from trioproxy.upstream.breaker import Breaker
from trioproxy.upstream.errors import UnknownModel
from trioproxy.upstream.health import watch_health
from trioproxy.upstream.places import Places
from trioproxy.upstream.route import Member, Route, Target
from trioproxy.upstream.standing import Standing
from trioproxy.upstream.survey import HEALTH, any_lives
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
    max_event_bytes: int
    trust_env: bool
    idle_seconds: float

    def make(self, places: Places, standing: Standing) -> Member:
        """Raises :class:`~trioproxy.config.ConfigError`."""
        entry = self.entry
        try:
            upstream = Upstream(
                entry.url,
                name=entry.name,
                key=entry.key,
                headers=entry.headers,
                forward_credentials=entry.forward_credentials,
                timeouts=self.timeouts,
                max_event_bytes=self.max_event_bytes,
                trust_env=self.trust_env,
                places=places,
                idle_seconds=self.idle_seconds,
            )
        except (httpx.InvalidURL, OSError) as error:  # the latter of certificates
            raise ConfigError(f"{entry.url} cannot be called: {error}") from None
        return Member(upstream, standing)

    def put_in_force(self, member: Member) -> None:
        """Bound what outlives the member."""
        places, breaker, entry = member.upstream.places, member.standing.breaker, self.entry
        places.max_calls = math.inf if entry.max_calls is None else entry.max_calls
        places.max_waiting = entry.max_queue
        failures = entry.breaker_failures
        breaker.failures = math.inf if failures is None else failures
        breaker.seconds = entry.breaker_seconds
        if entry.health is None:
            member.standing.is_up = True  # nobody would find out


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
        self._former: set[Places] = set()
        self._routes: Sequence[Route] = ()

    @property
    def members(self) -> list[Member]:
        return [attended.member for attended in self._attended.values()]

    @property
    def open_calls(self) -> int:
        """The calls that are made, or wait for their turn, those of former members included."""
        places = [member.upstream.places for member in self.members]
        return sum(each.taken for each in (*places, *self._former))

    async def is_ready(self) -> bool:
        """Whether there is one that may be called, and that lives. If cancelled, nothing has
        changed."""
        return await any_lives(
            (attended.member.upstream, attended.made_of.entry.health or HEALTH)
            for attended in self._attended.values()
            if attended.member.standing.is_available
        )

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
        before stays as it is; one that is at the same URL keeps its places and its standing. Calls
        that are under way end as they would have.

        Raises :class:`~trioproxy.config.ConfigError`, with nothing changed, for what cannot be
        called.
        """
        entries, routes = _tables(settings, self._upstream_url)
        attended = {entry.name: self._attended_for(entry, settings) for entry in entries}
        before, self._attended = self._attended, attended
        for name, one in attended.items():
            if before.get(name) is not one:
                one.made_of.put_in_force(one.member)
                self._nursery.start_soon(_attend, one, name=f"upstream {name}")
        for name, one in before.items():
            if attended.get(name) is not one:
                one.scope.cancel(reason="no longer configured")
        # A call may be about to begin in those that are gone now.
        former = {places for places in self._former if places.taken}
        former |= {one.member.upstream.places for one in before.values()}
        self._former = former - {member.upstream.places for member in self.members}
        self._routes = [_route(route, attended) for route in routes]

    def _attended_for(self, entry: UpstreamEntry, settings: Settings) -> _Attended:
        before, recipe = self._attended.get(entry.name), _recipe(entry, settings)
        if before is None or before.made_of.entry.url != entry.url:
            return _Attended(recipe.make(Places(), Standing(Breaker())), recipe)
        if before.made_of == recipe:
            return before
        member = before.member
        return _Attended(recipe.make(member.upstream.places, member.standing), recipe)

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
            forward_credentials=True,
            breaker_failures=None,
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
        settings.max_event,
        settings.trust_env,
        settings.upstream_keep_alive,
    )


def _route(entry: RouteEntry, attended: Mapping[str, _Attended]) -> Route:
    targets = [Target(attended[to.upstream].member, to.weight, to.model) for to in entry.to]
    return Route(entry.model, targets, entry.retries)


async def _attend(attended: _Attended) -> None:
    """Keep the upstream's connections, and see how it is, until the scope is cancelled."""
    entry, member = attended.made_of.entry, attended.member
    with attended.scope:
        async with member.upstream.keep_alive():
            if entry.health is None:
                await trio.sleep_forever()
            await watch_health(member, entry.health, entry.health_interval)
