"""The way of a request to an upstream that answers it.

A call that fails may be made again, of the next upstream, for as long as nothing has come of it
that a reader could have seen: its first event, or, where the answer is not a stream, its head. Each
call is left before the next is made, so there is never more than one.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TypeVar

import trio

from trioproxy.fanout import Feed, SourceFailed
from trioproxy.upstream.call import Answer
from trioproxy.upstream.errors import (
    UpstreamBusy,
    UpstreamRefused,
    UpstreamSilent,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from trioproxy.upstream.request import UpstreamRequest
from trioproxy.upstream.roster import Roster
from trioproxy.upstream.route import Route, Target
from trioproxy.upstream.upstream import Upstream, read_refusal
from trioproxy.wire import Dialect, Tally

T = TypeVar("T")
Enter = Callable[[AsyncExitStack, Upstream, UpstreamRequest], Awaitable[T]]
"""Makes a call that the stack will end, and waits until it has succeeded."""

SHORTEST, LONGEST = 0.25, 4.0
"""Seconds: the longest pause when all have been asked for the first time, and the longest of
any."""


class Router:
    """Makes each call of one of the upstreams on the ``roster`` that the model's route leads to.

    What may be called, and how often, is settled when the call is made. Raises
    :class:`~trioproxy.upstream.UnknownModel` at once where no route is for the ``model``; entering
    raises what entering the call of an :class:`Upstream` raises, of the last call that was made, or
    :class:`~trioproxy.upstream.UpstreamUnavailable`.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    def stream(
        self, model: str | None, request: UpstreamRequest, dialect: Dialect, tally: Tally
    ) -> AbstractAsyncContextManager[Feed]:
        """A source: see :meth:`Upstream.stream`. Where the route has retries, its first event is
        waited for on entry."""
        route = self._roster.route_for(model)

        async def enter(
            stack: AsyncExitStack, upstream: Upstream, request: UpstreamRequest
        ) -> Feed:
            feed = await stack.enter_async_context(upstream.stream(request, dialect, tally))
            if route.retries:
                await feed.begin()
            return feed

        return _answered(route, request, enter, is_retryable)

    def whole(
        self, model: str | None, request: UpstreamRequest
    ) -> AbstractAsyncContextManager[Feed]:
        """A source: see :meth:`Upstream.whole`."""

        async def enter(
            stack: AsyncExitStack, upstream: Upstream, request: UpstreamRequest
        ) -> Feed:
            return await stack.enter_async_context(upstream.whole(request))

        return _answered(self._roster.route_for(model), request, enter, is_retryable)

    def forward(
        self, model: str | None, request: UpstreamRequest
    ) -> AbstractAsyncContextManager[Answer]:
        """The call as it is: see :meth:`Upstream.forward`. One that might do a thing twice is made
        again only if it was not done."""
        route = self._roster.default_route_for(model)

        async def enter(
            stack: AsyncExitStack, upstream: Upstream, request: UpstreamRequest
        ) -> Answer:
            answer = await stack.enter_async_context(upstream.forward(request))
            head = answer.head
            if route.retries and (head.status in {408, 429} or head.status >= 500):
                raise UpstreamRefused(head.status, head.headers, await read_refusal(answer))
            return answer

        is_safe = request.method in {"GET", "HEAD", "OPTIONS"}  # RFC 9110, section 9.2.1
        may_follow = is_retryable if is_safe else was_not_done
        if model is None:
            route = route.without_names()  # there is none to change
        return _answered(route, request, enter, may_follow)


def is_retryable(error: SourceFailed) -> bool:
    """Whether another call might succeed where this one failed."""
    if isinstance(error, UpstreamRefused):
        return error.status in {408, 429} or error.status >= 500
    return True


def was_not_done(error: SourceFailed) -> bool:
    """Whether it is certain that the upstream has done nothing of what was asked."""
    if isinstance(error, UpstreamRefused):
        return error.status in {429, 503}
    return isinstance(error, UpstreamUnreachable | UpstreamBusy)


@asynccontextmanager
async def _answered(
    route: Route,
    request: UpstreamRequest,
    enter: Enter[T],
    may_follow: Callable[[SourceFailed], bool],
) -> AsyncGenerator[T]:
    """The first call that succeeds, of those that the route has; left with the block."""
    async with AsyncExitStack() as stack:
        yield await _try(route, request, enter, may_follow, stack)


async def _try(
    route: Route,
    request: UpstreamRequest,
    enter: Enter[T],
    may_follow: Callable[[SourceFailed], bool],
    stack: AsyncExitStack,
) -> T:
    order, rounds, failure = list[Target](), 0, None
    for left in range(route.retries, -1, -1):
        order = [target for target in order if target.member.standing.is_available]
        if not order:
            if failure is not None:
                await _pause(rounds, failure)
            order, rounds = _order(route, failure), rounds + 1
        target = order.pop(0)
        standing = target.member.standing
        try:
            with standing.judged():
                async with AsyncExitStack() as attempt:
                    sent = target.rewrite(request)
                    result = await enter(attempt, target.member.upstream, sent)
                    stack.push_async_exit(attempt.pop_all())
            return result
        except SourceFailed as error:
            if isinstance(error, UpstreamSilent):  # it has had all the time there is
                route = route.without(target)
            if not left or not route.targets or not may_follow(error):
                raise
            standing.passed_on += 1
            failure = error
    raise AssertionError("the last call has returned or raised")


def _order(route: Route, failure: SourceFailed | None) -> list[Target]:
    try:
        return route.order()
    except UpstreamUnavailable as error:
        raise failure or error from None


async def _pause(rounds: int, failure: SourceFailed) -> None:
    """Wait before all are asked again: by chance, so that those whom one event has failed do not
    come back as one, and for what the upstream asks. Raises the failure where that is too long."""
    bound = min(LONGEST, SHORTEST * 2.0 ** (rounds - 1))
    asked = failure.retry_after if isinstance(failure, UpstreamRefused) else 0.0
    if asked > LONGEST:
        raise failure
    await trio.sleep(max(asked, random.uniform(bound / 2, bound)))
