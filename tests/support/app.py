"""The application alone, without the proxy around it."""

from __future__ import annotations

from quart_trio import QuartTrio

from trioproxy.config import Settings
from trioproxy.fanout import Hub
from trioproxy.gateway import Answers, Quotas, Rates, Tenants
from trioproxy.telemetry import Metrics
from trioproxy.upstream import Roster
from trioproxy.web import Holdings, create_app
from trioproxy.web.metronome import Metronome
from trioproxy.web.places import Alone
from trioproxy.web.readiness import Readiness


def make_app(settings: Settings, hub: Hub, roster: Roster) -> QuartTrio:
    """It serves ``hub`` over ``roster``. No heartbeats, and no connections that it knows of."""
    quotas = Quotas(settings)
    holdings = Holdings(
        hub=hub,
        places=Alone(),
        board_hub=hub,
        roster=roster,
        is_upstream_ready=Readiness(roster.is_ready),
        answers=Answers(settings.cache_ttl, settings.cache_size),
        tenants=Tenants(settings.gateway),
        quotas=quotas,
        rates=Rates(quotas.rate_of),
        metronome=Metronome(settings.heartbeat),
        metrics=Metrics(),
        count_connections=lambda: 0,
        is_draining=lambda: False,
        present_calls=lambda: app.calls,
    )
    app = create_app(settings, holdings)
    return app
