"""What is known of an upstream: whether it may be called, and what its calls came to."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Protocol, TypeVar

from trioproxy.fanout import SourceFailed
from trioproxy.upstream.breaker import Breaker
from trioproxy.upstream.errors import UpstreamRefused, UpstreamUnavailable
from trioproxy.upstream.request import Head


class Answered(Protocol):
    """What has been answered: a stream that has begun, a whole body, whatever there is a head
    of."""

    @property
    def head(self) -> Head: ...


A = TypeVar("A", bound=Answered)


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

    async def enter(self, stack: AsyncExitStack, call: AbstractAsyncContextManager[A]) -> A:
        """Enter a call on the stack. How that ends decides whether the next may be made; if
        cancelled, it decides nothing.

        Raises :class:`UpstreamUnavailable` where none may be made now, and what the call raises.
        """
        if not self.is_available:
            raise UpstreamUnavailable("the upstream is not well", self.breaker.remaining)
        turn = self.breaker.begin()
        try:
            answer = await stack.enter_async_context(call)
        except SourceFailed as error:
            if is_fault(error):
                self.breaker.fail(turn)
            else:
                self.breaker.succeed(turn)  # it is well enough to refuse
            raise
        except BaseException:
            self.breaker.abandon(turn)
            raise
        if tells_fault(answer.head.status):
            self.breaker.fail(turn)
        else:
            self.breaker.succeed(turn)
        return answer


def is_fault(error: SourceFailed) -> bool:
    """Whether it tells that the upstream is not well."""
    return tells_fault(error.status) if isinstance(error, UpstreamRefused) else True


def tells_fault(status: int) -> bool:
    """The same of an answer. That something in the request was too much for it (500) tells nothing:
    else whoever sends such a request would shut it for all."""
    return status > 500
