"""What is known of an upstream: whether it may be called, and what its calls came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from trioproxy.fanout import SourceFailed
from trioproxy.upstream.breaker import Breaker
from trioproxy.upstream.errors import UpstreamBusy, UpstreamRefused


class Standing:
    """``is_up`` is what was found by asking for its health, if that is done. ``results`` counts
    calls by what came of them: ``answered``, or the reason of their failure; ``passed_on`` those
    after whose failure another call was made."""

    def __init__(self, breaker: Breaker) -> None:
        self.breaker = breaker
        self.is_up = True
        self.results = Counter[str]()
        self.passed_on = 0

    @property
    def is_available(self) -> bool:
        """Whether a call may be made now."""
        return self.is_up and self.breaker.allows

    @contextmanager
    def judged(self) -> Generator[None]:
        """For the length of the block a call is made, up to its first event: how that ends is
        noted. If cancelled, nothing is."""
        turn = self.breaker.begin()
        try:
            yield
        except SourceFailed as error:
            self.results[error.reason] += 1
            if isinstance(error, UpstreamBusy):
                self.breaker.abandon(turn)  # it was not called
            elif is_fault(error):
                self.breaker.fail(turn)
            else:
                self.breaker.succeed(turn)  # it is well enough to refuse
            raise
        except BaseException:
            self.breaker.abandon(turn)
            raise
        self.results["answered"] += 1
        self.breaker.succeed(turn)


def is_fault(error: SourceFailed) -> bool:
    """Whether it tells that the upstream is not well. That something in the request was too much
    for it (500) does not: else whoever sends such a request would shut it for all."""
    if isinstance(error, UpstreamRefused):
        return error.status > 500
    return True
