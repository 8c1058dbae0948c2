"""How an upstream fails. `reason` becomes the reason of its generation's outcome."""

from __future__ import annotations

from trioproxy.fanout import SourceFailed
from trioproxy.upstream.request import HeaderPairs


class UnknownModel(Exception):
    """No route is for the model that was asked for."""


class UpstreamUnreachable(SourceFailed):
    """No connection, no TLS, or none in time: the request was never sent."""

    def __init__(self, message: str) -> None:
        super().__init__("unreachable", message)


class UpstreamUnavailable(SourceFailed):
    """None of those that could answer may be called now: they have failed too often, or say that
    they are not well. In ``retry_after`` seconds one may be."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__("unavailable", message)
        self.retry_after = retry_after


class UpstreamBusy(SourceFailed):
    """It has as many calls as it may have, and as many wait as may: none was made."""

    def __init__(self, message: str) -> None:
        super().__init__("busy", message)


class UpstreamSilent(SourceFailed):
    """It took the request and then said nothing for too long."""

    def __init__(self, message: str) -> None:
        super().__init__("timeout", message)


class UpstreamBroken(SourceFailed):
    """The connection broke, or what came over it was not HTTP, or ended before it was whole."""

    def __init__(self, message: str) -> None:
        super().__init__("broken", message)


class UpstreamNotStreaming(SourceFailed):
    """A streaming call was answered with something else than a stream of events."""

    def __init__(self, message: str) -> None:
        super().__init__("not_a_stream", message)


class UpstreamRefused(SourceFailed):
    """The upstream answered with an error instead of a stream.

    The answer is kept (``body`` up to a bound) so that each client that waits gets that very
    answer.
    """

    def __init__(self, status: int, headers: HeaderPairs, body: bytes) -> None:
        super().__init__("refused", f"the upstream answered with status {status}")
        self.status = status
        self.headers = headers
        self.body = body
        self.held_bytes = len(body)

    @property
    def retry_after(self) -> float:
        """The seconds for which the upstream asks to be left alone; 0 if it does not say (RFC 9110,
        section 10.2.3; of a date nothing is made)."""
        for name, value in self.headers:
            if name == b"retry-after" and value.isdigit() and len(value) < 10:
                return float(value)
        return 0.0
