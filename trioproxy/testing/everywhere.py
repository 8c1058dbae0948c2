"""Trying a scenario again and again, with a blow at each of its points in turn."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Generic, TypeVar

import trio
from trio.testing import MockClock

from trioproxy.testing.census import TaskCensus
from trioproxy.testing.determinism import deterministic
from trioproxy.testing.trial import Trial
from trioproxy.testing.watchdog import Watchdog

T = TypeVar("T")

Scenario = Callable[[Trial], Awaitable[T]]
Invariant = Callable[[T], object]


def connection_reset() -> OSError:
    """What the kernel says of a connection that the other side has reset."""
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


class Violation(AssertionError):
    """A point at which a scenario, its invariant or the census failed. The failure is the cause."""


def cancel_at_every_checkpoint(
    scenario: Scenario[T],
    invariant: Invariant[T] | None = None,
    *,
    seed: int = 0,
    only: int | None = None,
    virtual_seconds: float = 3600.0,
) -> int:
    """Run ``scenario`` again and again, and cancel its target before the 1st, the 2nd, … step that
    any of its tasks makes (and between steps, whenever all of them wait), until it runs through
    untouched. Returns the number of points tried.

        async def send_one(trial: Trial) -> Inbox:
            inbox = Inbox()
            with trial.target():            # what is cancelled
                await inbox.put("message")
            return inbox

        def nothing_is_half_put(inbox: Inbox) -> None:
            assert len(inbox) in (0, 1)

        cancel_at_every_checkpoint(send_one, nothing_is_half_put)

    Each run is one of :func:`trio.run`, so this is called outside of trio. Its time is virtual
    (every peer must be a task of the run; see :class:`~trioproxy.testing.network.VirtualNetwork`),
    its scheduling is drawn from ``seed``, and a :class:`~trioproxy.testing.TaskCensus` is around
    it: what is alive a second after the scenario has returned is a violation too. ``invariant`` is
    called with what the scenario returned, after the run; what can only be seen while it runs, the
    scenario asserts itself. A run that takes longer than ``virtual_seconds``, or does not let time
    pass, hangs, and is ended (see :class:`~trioproxy.testing.watchdog.Watchdog`).

    Raises :exc:`Violation`, which names the point, shows where the tasks stood, and ends in the
    call that repeats it: ``only`` is the one point to try, and if there is no such point any more
    the scenario runs through untouched. Raises :exc:`ValueError` where the scenario has no point.
    """
    return _strike_at_each(
        "checkpoint",
        lambda point: Trial(checkpoint=point),
        only,
        _Experiment(scenario, invariant, seed, virtual_seconds),
        lambda point: _written_call(
            cancel_at_every_checkpoint,
            *([scenario] if invariant is None else [scenario, invariant]),
            seed=seed,
            only=point,
            virtual_seconds=virtual_seconds,
        ),
    )


def fail_at_every_io(
    scenario: Scenario[T],
    invariant: Invariant[T] | None = None,
    *,
    error: Callable[[], OSError] = connection_reset,
    seed: int = 0,
    only: int | None = None,
    virtual_seconds: float = 3600.0,
) -> int:
    """The same with faults: the 1st, the 2nd, … I/O within the scenario's target fails with
    ``error()``, until it runs through untouched. Returns the number of points tried.

    An I/O is a call of :meth:`Trial.io`, to be made before each; give it to a
    :class:`~trioproxy.testing.network.VirtualNetwork` as ``on_io``, and every connect, accept, send
    and receive is one, and fails together with its connection. What that means to the scenario is
    the scenario's to handle. (Give an ``error`` its ``errno``, as the kernel does: trio asks for
    it.)
    """
    return _strike_at_each(
        "I/O",
        lambda point: Trial(io=point, error=error()),
        only,
        _Experiment(scenario, invariant, seed, virtual_seconds),
        lambda point: _written_call(
            fail_at_every_io,
            *([scenario] if invariant is None else [scenario, invariant]),
            error=error,
            seed=seed,
            only=point,
            virtual_seconds=virtual_seconds,
        ),
    )


@dataclass(frozen=True)
class _Experiment(Generic[T]):
    """A scenario, and what is the same in each of its runs."""

    scenario: Scenario[T]
    invariant: Invariant[T] | None
    seed: int
    virtual_seconds: float

    def run(self, trial: Trial, watchdog: Watchdog) -> None:
        """Run it once. Raises what was wrong with that."""
        with deterministic(self.seed), TaskCensus() as census:
            result = trio.run(
                partial(watchdog.watch, partial(self._play, trial, census)),
                clock=MockClock(autojump_threshold=0),
                instruments=[trial, watchdog, census],
            )
        if watchdog.story:
            raise AssertionError("the run had to be ended")
        if self.invariant is not None:
            self.invariant(result)

    async def _play(self, trial: Trial, census: TaskCensus) -> T:
        trio.lowlevel.current_task().name = _written(self.scenario)
        await trio.lowlevel.checkpoint()  # a task of trio's own makes its first step, or has
        result = await self.scenario(trial)
        await census.settled()  # before the run ends, and with it every task
        return result


def _strike_at_each(
    kind: str,
    trial_at: Callable[[int], Trial],
    only: int | None,
    experiment: _Experiment[T],
    call_for: Callable[[int], str],
) -> int:
    tried = 0
    for point in itertools.count(1) if only is None else [only]:
        trial, watchdog = trial_at(point), Watchdog(experiment.virtual_seconds)
        try:
            experiment.run(trial, watchdog)
        except Exception as error:
            where = f"at {kind} {point}, {trial.where}" if trial.struck else "with no blow at all"
            story = [f"violated {where}", watchdog.story, f"to repeat it: {call_for(point)}"]
            raise Violation("\n".join(part for part in story if part)) from error
        if not trial.struck:
            break
        tried += 1
    if tried == 0 and only is None:
        raise ValueError(f"nothing was tried: the scenario has no {kind} within a target")
    return tried


def _written_call(function: Callable[..., object], *args: object, **settings: object) -> str:
    """The expression that makes this call, without the settings that need not be given."""
    parameters = signature(function).parameters
    values = [_written(value) for value in args]
    values += [
        f"{name}={_written(value)}"
        for name, value in settings.items()
        if value != parameters[name].default
    ]
    return f"{function.__name__}({', '.join(values)})"


def _written(value: object) -> str:
    if isinstance(value, partial):
        values = [_written(part) for part in (value.func, *value.args)]
        values += [f"{name}={_written(part)}" for name, part in value.keywords.items()]
        return f"partial({', '.join(values)})"
    name = getattr(value, "__qualname__", None)
    return repr(value) if name is None else name.rpartition("<locals>.")[2]
