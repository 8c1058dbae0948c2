"""How an upstream fails. `reason` becomes the reason of its generation's outcome."""

from __future__ import annotations

from trioproxy.fanout import SourceFailed
from trioproxy.upstream.request import HeaderPairs


class UpstreamUnreachable(SourceFailed):
    """No connection, no TLS, or none in time: the request was never sent."""

    def __init__(self, message: str) -> None:
        super().__init__("unreachable", message)


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
