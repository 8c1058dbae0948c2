"""Which upstreams answer for a model, and in which order they are asked."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from trioproxy.upstream.errors import UpstreamUnavailable
from trioproxy.upstream.request import UpstreamRequest
from trioproxy.upstream.standing import Standing
from trioproxy.upstream.upstream import Upstream
from trioproxy.wire import with_model


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """An upstream, and what is known of it."""

    upstream: Upstream
    standing: Standing


@dataclass(frozen=True, slots=True)
class Target:
    """Where a route leads. ``model`` is what the upstream calls it; None where it has no other
    name there."""

    member: Member
    weight: float
    model: str | None

    def rewrite(self, request: UpstreamRequest) -> UpstreamRequest:
        """The request as the upstream is to have it."""
        if self.model is None:
            return request
        return replace(request, body=with_model(request.body, self.model))


@dataclass(frozen=True, slots=True)
class Route:
    """The ``targets`` for the models that ``pattern`` matches. ``retries`` calls may follow one
    that failed."""

    pattern: str
    targets: Sequence[Target]
    retries: int

    @property
    def name(self) -> str | None:
        """The one model that it is for; None where there may be more."""
        return None if set(self.pattern) & set("*?[") else self.pattern

    def matches(self, model: str) -> bool:
        """Whether it is for this model. A ``*`` stands for anything, a ``?`` for one character."""
        return fnmatchcase(model, self.pattern)

    def check(self, request: UpstreamRequest) -> None:
        """Raises :class:`~trioproxy.wire.BadRequest` where the request cannot be rewritten for a
        target that has another name for the model."""
        for target in self.targets:
            if target.model is not None:
                target.rewrite(request)
                return

    def without_names(self) -> Route:
        """The same, where no target has another name for a model."""
        return replace(self, targets=[replace(target, model=None) for target in self.targets])

    def without(self, target: Target) -> Route:
        """The same without this one."""
        return replace(self, targets=[each for each in self.targets if each != target])

    def order(self) -> list[Target]:
        """Those that may be called now, in the order in which they are to be: by chance, each first
        as often as its weight has it; behind them those without any weight, as they were given.

        Raises :class:`UpstreamUnavailable` where there is none.
        """
        available = [target for target in self.targets if target.member.standing.is_available]
        if not available:
            standings = [target.member.standing for target in self.targets]
            soon = min(standing.breaker.remaining for standing in standings)
            raise UpstreamUnavailable("no upstream that could answer is well", soon)
        return sorted(available, key=_draw)


def _draw(target: Target) -> float:
    # Of exponential variates the least is each one's as often as its rate has it: sorting by them
    # draws without putting back.
    return random.expovariate(target.weight) if target.weight else float("inf")
