"""What is refused because somebody, or all together, have too much: counted."""

from __future__ import annotations

from quart_trio.wrappers import TrioResponse as Response

from trioproxy.fanout import HubFull, TooManyGenerations, TooManySubscribers
from trioproxy.gateway import RateLimited
from trioproxy.telemetry import Metrics
from trioproxy.web.admission import Overloaded
from trioproxy.web.failures import respond_to_error


class Refusals:
    """The errors that requests end in; those for want of room are counted."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def respond(self, error: Exception) -> Response:
        """The response to a request that failed before its first byte."""
        self.count(error)
        return await respond_to_error(error)

    def count(self, error: Exception) -> None:
        """Take note of one."""
        match error:
            case HubFull(reason=reason) | Overloaded(reason=reason):
                self._metrics.shed(reason)
            case RateLimited():
                self._metrics.rate_limited("requests")
            case TooManyGenerations():
                self._metrics.rate_limited("generations")
            case TooManySubscribers():
                self._metrics.rate_limited("subscribers")
            case _:
                pass
