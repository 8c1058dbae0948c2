"""The application alone, without the proxy around it."""

from __future__ import annotations

from quart_trio import QuartTrio

from trioproxy.config import Settings
from trioproxy.fanout import Hub
from trioproxy.gateway import Quotas
from trioproxy.telemetry import Metrics
from trioproxy.upstream import Roster
from trioproxy.web import Metronome, create_app


def make_app(settings: Settings, hub: Hub, roster: Roster) -> QuartTrio:
    """It serves ``hub`` over ``roster``. No heartbeats, and no connections that it knows of."""
    return create_app(
        settings,
        hub=hub,
        board_hub=hub,
        roster=roster,
        metronome=Metronome(settings.heartbeat),
        metrics=Metrics(),
        quotas=Quotas(settings),
        count_connections=lambda: 0,
        is_draining=lambda: False,
    )
