"""What an operator asks: does it live, what does it hold, and what can it be asked."""

from __future__ import annotations

import os
from importlib import resources
from typing import Any

import msgspec
import trio
from quart_trio.wrappers import TrioResponse as Response

from trioproxy import __version__
from trioproxy.telemetry import CONTENT_TYPE
from trioproxy.web.holdings import Holdings
from trioproxy.web.responses import json_response


class Operations:
    """``/healthz``, ``/readyz``, ``/metrics``, ``/debug/census`` and ``/openapi.json``."""

    def __init__(self, holdings: Holdings, *, is_open: bool) -> None:
        self._holdings = holdings
        self._is_open = is_open
        self._hub = holdings.hub
        self._description = _load_description()

    async def health(self) -> Response:
        """That it lives, and its cluster; and how much runs, where that is nobody's secret."""
        told = {"status": "ok", **self._describe_cluster()}
        if not self._is_open:
            return json_response(told)
        return json_response(
            {
                **told,
                "generations": len(self._hub.running),
                "subscribers": self._count_subscribers(),
            }
        )

    async def readiness(self) -> Response:
        """Whether it is worth while to send calls here: 503, and why, where it is not."""
        if self._holdings.is_draining():
            return _unready("draining")
        if not await self._holdings.is_upstream_ready():
            return _unready("upstream")
        if not self._holdings.places.is_ready:
            return _unready("cluster")
        return json_response({"status": "ready", **self._describe_cluster()})

    async def metrics(self) -> Response:  # noqa: ASYNC124 - or Quart takes a thread
        """All metrics, in Prometheus's text format; of all workers, whichever is asked."""
        metrics = self._holdings.metrics
        exposed = metrics.expose() if metrics.gather is None else await metrics.gather()
        return Response(exposed, content_type=CONTENT_TYPE)

    async def census(self) -> Response:
        """What is alive in this process, this request and its connection included."""
        return json_response(
            {
                "tasks": trio.lowlevel.current_statistics().tasks_living,
                "fds": len(os.listdir("/proc/self/fd")) - 1,  # less the one that lists them
                "generations": len(self._hub.running),
                "subscribers": self._count_subscribers(),
                "upstream_calls": self._holdings.roster.open_calls,
                "retained": len(self._hub.retained),
                "connections": self._holdings.count_connections(),
                "rss_bytes": _rss_bytes(),
            }
        )

    async def describe(self) -> Response:  # noqa: ASYNC124 - or Quart takes a thread
        """The routes, as an OpenAPI document (https://spec.openapis.org/oas/v3.1.0)."""
        return Response(self._description, content_type="application/json")

    def _describe_cluster(self) -> dict[str, object]:
        link = self._holdings.places.link
        return {} if link is None else {"cluster": link}

    def _count_subscribers(self) -> int:
        generations = [*self._hub.running, *self._hub.retained]
        return sum(generation.readers for generation in generations)


def _unready(reason: str) -> Response:
    return json_response({"status": "unready", "reason": reason}, 503)


def _load_description() -> bytes:
    source = resources.files("trioproxy.web").joinpath("openapi.json").read_bytes()
    description = msgspec.json.decode(source, type=dict[str, Any])
    description["info"]["version"] = __version__
    return msgspec.json.encode(description)


def _rss_bytes() -> int:
    """Resident memory (proc(5), statm: the second field, in pages)."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
