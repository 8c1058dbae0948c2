"""The way of a request to an upstream that answers it.

A call that fails may be made again, of the next upstream, for as long as nothing has come of it
that a reader could have seen: its first event, or, where the answer is not a stream, its head. Each
call is left before the next is made, so there is never more than one.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable
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
from trioproxy.upstream.feed import EventFeed, WholeFeed
from trioproxy.upstream.request import UpstreamRequest
from trioproxy.upstream.roster import Roster
from trioproxy.upstream.route import Member, Route, Target
from trioproxy.upstream.standing import Answered
from trioproxy.upstream.upstream import read_refusal
from trioproxy.wire import Dialect, Tally

A = TypeVar("A", bound=Answered)
Make = Callable[[Member, UpstreamRequest], AbstractAsyncContextManager[A]]
"""A call that has succeeded when it is entered."""

SHORTEST, LONGEST = 0.25, 4.0
"""Seconds: the longest pause when all have been asked for the first time, and the longest of
any."""


class Router:
    """Makes each call of one of the upstreams on the ``roster`` that the model's route leads to.

    What may be called, and how often, is settled when the call is made. Raises
    :class:`~trioproxy.upstream.UnknownModel` at once where no route is for the ``model``, and
    :class:`~trioproxy.wire.BadRequest` where a body cannot have the name that it has there;
    entering raises what entering the call of an :class:`Upstream` raises, of the last call that was
    made, or :class:`~trioproxy.upstream.UpstreamUnavailable`.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    def stream(
        self, model: str | None, request: UpstreamRequest, dialect: Dialect, tally: Tally
    ) -> AbstractAsyncContextManager[Feed]:
        """A source: see :meth:`Upstream.stream`. Where something hangs on its first event
        (another call, a breaker), that is waited for on entry."""
        route = self._roster.route_for(model)

        @asynccontextmanager
        async def make(member: Member, request: UpstreamRequest) -> AsyncGenerator[EventFeed]:
            async with member.upstream.stream(request, dialect, tally) as feed:
                if route.retries or member.standing.breaker.can_open:
                    await feed.begin()
                yield feed

        return _answered(route, request, make, is_retryable)

    def whole(
        self, model: str | None, request: UpstreamRequest
    ) -> AbstractAsyncContextManager[Feed]:
        """A source: see :meth:`Upstream.whole`."""

        def make(
            member: Member, request: UpstreamRequest
        ) -> AbstractAsyncContextManager[WholeFeed]:
            return member.upstream.whole(request)

        return _answered(self._roster.route_for(model), request, make, is_retryable)

    def forward(
        self, model: str | None, request: UpstreamRequest
    ) -> AbstractAsyncContextManager[Answer]:
        """The call as it is: see :meth:`Upstream.forward`. One that might do a thing twice is made
        again only if it was not done."""
        route = self._roster.default_route_for(model)

        @asynccontextmanager
        async def make(member: Member, request: UpstreamRequest) -> AsyncGenerator[Answer]:
            async with member.upstream.forward(request) as answer:
                head = answer.head
                if route.retries and tells_of_now(head.status):
                    raise UpstreamRefused(head.status, head.headers, await read_refusal(answer))
                yield answer

        is_safe = request.method in {"GET", "HEAD", "OPTIONS"}  # RFC 9110, section 9.2.1
        may_follow = is_retryable if is_safe else was_not_done
        if model is None:
            route = route.without_names()  # there is none to change
        return _answered(route, request, make, may_follow)


def tells_of_now(status: int) -> bool:
    """Whether an answer of this status is a refusal that another call might not get."""
    return status in {408, 429} or status >= 500


def is_retryable(error: SourceFailed) -> bool:
    """Whether another call might succeed where this one failed."""
    if isinstance(error, UpstreamRefused):
        return tells_of_now(error.status)
    return True


def was_not_done(error: SourceFailed) -> bool:
    """Whether it is certain that the upstream has done nothing of what was asked."""
    if isinstance(error, UpstreamRefused):
        return error.status in {429, 503}
    return isinstance(error, UpstreamUnreachable | UpstreamBusy | UpstreamUnavailable)


def _answered(
    route: Route,
    request: UpstreamRequest,
    make: Make[A],
    may_follow: Callable[[SourceFailed], bool],
) -> AbstractAsyncContextManager[A]:
    """The first call that succeeds, of those that the route has; left with the block."""
    route.check(request)  # at once: in a generation it would be a crash
    return _first(route, request, make, may_follow)


@asynccontextmanager
async def _first(
    route: Route,
    request: UpstreamRequest,
    make: Make[A],
    may_follow: Callable[[SourceFailed], bool],
) -> AsyncGenerator[A]:
    async with AsyncExitStack() as stack:
        yield await _try(route, request, make, may_follow, stack)


async def _try(
    route: Route,
    request: UpstreamRequest,
    make: Make[A],
    may_follow: Callable[[SourceFailed], bool],
    stack: AsyncExitStack,
) -> A:
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
            result = await stack.enter_async_context(_placed(target, request, make))
            is_refusal = tells_of_now(result.head.status)
            standing.results["refused" if is_refusal else "answered"] += 1
            return result
        except SourceFailed as error:
            standing.results[error.reason] += 1
            if isinstance(error, UpstreamSilent):  # it has had all the time there is
                route = route.without(target)
            if not left or not route.targets or not may_follow(error):
                raise
            standing.passed_on += 1
            failure = error
    raise AssertionError("the last call has returned or raised")


@asynccontextmanager
async def _placed(
    target: Target,
    request: UpstreamRequest,
    make: Make[A],
) -> AsyncGenerator[A]:
    """One call, in one of its upstream's places. Whether it may be made is seen once it has that:
    those who went before may have failed."""
    member = target.member
    async with member.upstream.place(), AsyncExitStack() as stack:
        yield await member.standing.enter(stack, make(member, target.rewrite(request)))


def _order(route: Route, failure: SourceFailed | None) -> list[Target]:
    try:
        return route.order()
    except UpstreamUnavailable as error:
        raise failure or error from None


async def _pause(rounds: int, failure: SourceFailed) -> None:
    """Wait before all are asked again: by chance, so that those whom one event has failed do not
    come back as one, and for what the upstream asks. Raises the failure where that is too long."""
    bound = min(LONGEST, SHORTEST * 2.0 ** (rounds - 1))
    tells = isinstance(failure, UpstreamRefused | UpstreamUnavailable)
    asked = failure.retry_after if tells else 0.0
    if asked > LONGEST:
        raise failure
    await trio.sleep(max(asked, random.uniform(bound / 2, bound)))
