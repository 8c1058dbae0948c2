"""What outlives the settings: what runs, what is kept and what is counted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from trioproxy.config import Settings
from trioproxy.fanout import Hub, Limits, open_hub
from trioproxy.gateway import Answers, Quotas, Rates, Tenants
from trioproxy.telemetry import Gauges, Metrics, Telemetry, UpstreamFigures
from trioproxy.upstream import Member, Roster, open_roster
from trioproxy.web.board import LIMITS as BOARD_LIMITS
from trioproxy.web.calls import Calls
from trioproxy.web.metronome import Metronome, open_metronome
from trioproxy.web.places import Alone, Places
from trioproxy.web.readiness import Readiness


@dataclass(frozen=True, slots=True, eq=False)
class Holdings:
    """What an application serves, and owns nothing of. ``count_connections`` and ``is_draining``
    are the server's, which lies above; ``present_calls`` those of the application that answers who
    comes now."""

    hub: Hub
    places: Places
    board_hub: Hub
    roster: Roster
    is_upstream_ready: Readiness
    answers: Answers
    tenants: Tenants
    quotas: Quotas
    rates: Rates
    metronome: Metronome
    metrics: Metrics
    count_connections: Callable[[], int]
    is_draining: Callable[[], bool]
    present_calls: Callable[[], Calls]

    def configure(self, settings: Settings) -> None:
        """Let these settings hold for what begins from now on. What runs goes on as it began, and
        each count goes on. Raises :class:`~trioproxy.config.ConfigError`, with nothing changed."""
        self.roster.configure(settings)
        self.hub.configure(_limits(settings))
        self.answers.configure(settings.cache_ttl, settings.cache_size)
        self.tenants.configure(settings.gateway)
        self.quotas.configure(settings)
        for board in list(self.board_hub.running):
            board.cancel("reloaded")  # who looks on comes back, and is let in by the present keys


@asynccontextmanager
async def open_holdings(
    settings: Settings,
    *,
    upstream_url: str | None,
    telemetry: Telemetry,
    count_connections: Callable[[], int],
    is_draining: Callable[[], bool],
    present_calls: Callable[[], Calls],
) -> AsyncGenerator[Holdings]:
    """Open them for the length of the block; see :func:`~trioproxy.upstream.open_roster` for
    ``upstream_url``. On exit what runs is cancelled."""
    quotas = Quotas(settings)
    rates = Rates(quotas.rate_of)
    answers = Answers(settings.cache_ttl, settings.cache_size)
    async with (
        open_roster(settings, upstream_url=upstream_url) as roster,
        _open_places(settings, telemetry, quotas, rates) as (hub, places),
        open_hub(BOARD_LIMITS) as board_hub,
        open_metronome(settings.heartbeat) as metronome,
    ):
        gauges = Gauges(
            connections=count_connections,
            upstream_calls=lambda: roster.open_calls,
            upstreams=lambda: [_figures(member) for member in roster.members],
            kept_answers=lambda: (answers.hits, len(answers), answers.held_bytes),
        )
        telemetry.metrics.observe(hub, gauges)
        yield Holdings(
            hub,
            places,
            board_hub,
            roster,
            Readiness(roster.is_ready),
            answers,
            Tenants(settings.gateway),
            quotas,
            rates,
            metronome,
            telemetry.metrics,
            count_connections,
            is_draining,
            present_calls,
        )


@asynccontextmanager
async def _open_places(
    settings: Settings, telemetry: Telemetry, quotas: Quotas, rates: Rates
) -> AsyncGenerator[tuple[Hub, Places]]:
    """The hub, by itself or as a node's."""
    limits = _limits(settings)
    if settings.cluster is None:
        async with open_hub(limits, watch=telemetry.watch, share_of=quotas.share_of) as hub:
            yield hub, Alone()
        return
    from trioproxy.web.clustered import open_cluster  # who has none does not pay for it

    async with open_cluster(settings, limits, telemetry, quotas, rates) as cluster:
        yield cluster.hub, cluster


def _limits(settings: Settings) -> Limits:
    return Limits(
        max_transcript_bytes=settings.max_transcript,
        max_hub_bytes=settings.max_hub,
        max_subscribers=settings.max_subscribers,
        max_total_generations=settings.max_total_generations,
        max_seconds=settings.max_duration,
        retention=settings.retention,
        max_lag=settings.max_lag,
    )


def _figures(member: Member) -> UpstreamFigures:
    upstream, standing = member.upstream, member.standing
    return UpstreamFigures(
        upstream.name,
        upstream.open_calls,
        standing.is_up,
        standing.breaker.state,
        standing.results,
        standing.passed_on,
    )
