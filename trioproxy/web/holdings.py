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
from trioproxy.web.metronome import Metronome, open_metronome
from trioproxy.web.readiness import Readiness


@dataclass(frozen=True, slots=True, eq=False)
class Holdings:
    """What an application serves, and owns nothing of. ``count_connections`` and ``is_draining``
    are the server's, which lies above."""

    hub: Hub
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

    def configure(self, settings: Settings) -> None:
        """Let these settings hold for what begins from now on. What runs goes on as it began, and
        each count goes on. Raises :class:`~trioproxy.config.ConfigError`, with nothing changed."""
        self.roster.configure(settings)
        self.hub.configure(_limits(settings))
        self.answers.configure(settings.cache_ttl, settings.cache_size)
        self.tenants.configure(settings.gateway)
        self.quotas.configure(settings)


@asynccontextmanager
async def open_holdings(
    settings: Settings,
    *,
    upstream_url: str | None,
    telemetry: Telemetry,
    count_connections: Callable[[], int],
    is_draining: Callable[[], bool],
) -> AsyncGenerator[Holdings]:
    """Open them for the length of the block; see :func:`~trioproxy.upstream.open_roster` for
    ``upstream_url``. On exit what runs is cancelled."""
    quotas = Quotas(settings)
    answers = Answers(settings.cache_ttl, settings.cache_size)
    async with (
        open_roster(settings, upstream_url=upstream_url) as roster,
        open_hub(_limits(settings), watch=telemetry.watch, share_of=quotas.share_of) as hub,
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
            board_hub,
            roster,
            Readiness(roster.is_ready),
            answers,
            Tenants(settings.gateway),
            quotas,
            Rates(quotas.rate_of),
            metronome,
            telemetry.metrics,
            count_connections,
            is_draining,
        )


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
