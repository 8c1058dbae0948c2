"""The demonstration: ``trioproxy demo``.

In about ten seconds it plays six acts on real sockets of this machine. Each shows one promise of
the proxy being kept, and measures it; at the end all figures stand in one table.

:mod:`~trioproxy.demo.rig` is the engine and the proxy, :mod:`~trioproxy.demo.reader` a client,
:mod:`~trioproxy.demo.stage` the terminal, and :mod:`~trioproxy.demo.acts` what is played. An act
returns :class:`~trioproxy.demo.figures.Figure` objects: what it measured, and whether that
contradicts the law.
"""

import signal
from collections.abc import AsyncIterator, Sequence

import trio
from rich.console import Console

from trioproxy.demo.acts import ACTS, Act
from trioproxy.demo.figures import Figure, figures_table
from trioproxy.demo.reader import UnexpectedAnswer
from trioproxy.demo.rig import open_rig
from trioproxy.demo.stage import Stage, open_console

__all__ = ["run_demo"]

DEADLINE = 60.0
"""Seconds for the whole; it takes about ten."""
INTERRUPTED = 128 + signal.SIGINT


def run_demo() -> int:
    """Play the demonstration on standard output and return the exit code.

    0: every law held. 1: a figure contradicts its law, an act could not be played, or the whole
    took more than a minute; which of these is printed. 130: SIGINT or SIGTERM ended it.
    """
    return trio.run(perform, open_console(), ACTS, DEADLINE)


async def perform(console: Console, acts: Sequence[Act], deadline: float) -> int:
    """Play ``acts`` and return the exit code, as `run_demo` does; ``deadline`` is in seconds.

    If cancelled, everything that was opened is closed.
    """
    started = trio.current_time()
    stage = Stage(console)
    figures: list[Figure] = []
    failure = ""
    with (
        trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
        trio.CancelScope() as interruption,
        trio.move_on_after(deadline) as limit,
    ):
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_on, signals, interruption)
                nursery.start_soon(stage.paint)
                await _play(stage, acts, figures)
                nursery.cancel_scope.cancel(reason="the demonstration is over")
        except* (UnexpectedAnswer, OSError) as errors:
            failure = f"Could not go on: {_first_of(errors)}."
    if interruption.cancelled_caught:
        stage.tell("\ninterrupted")
        return INTERRUPTED
    if limit.cancelled_caught:
        failure = f"Gave up after {deadline:g} s, waiting for {stage.waits_for}."
    if failure:
        stage.tell("\n", (failure, "bold red"))
        return 1
    return _sum_up(stage, figures, trio.current_time() - started)


async def _cancel_on(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await anext(signals)
    scope.cancel(reason="a signal")


async def _play(stage: Stage, acts: Sequence[Act], figures: list[Figure]) -> None:
    stage.tell(
        ("trioproxy", "bold"), ": a simulated engine, the proxy in front of it, and readers."
    )
    stage.tell("All of it on real sockets of this machine, and measured while it happens.")
    async with open_rig() as rig:
        stage.watch(rig.engine.stats)
        for number, act in enumerate(acts, 1):
            await stage.announce(f"{number} of {len(acts)}  {act.title}", act.sentence)
            played = await act.play(rig, stage)
            stage.conclude(played)
            figures += played
        stage.waits_for = "engine and proxy to close"


def _sum_up(stage: Stage, figures: Sequence[Figure], seconds: float) -> int:
    broken = sum(not figure.holds for figure in figures)
    stage.tell()
    stage.show(figures_table(figures))
    if broken:
        stage.tell((f"{broken} of {len(figures)} figures contradict their law.", "bold red"))
        return 1
    stage.tell(f"All {len(figures)} laws held, in {seconds:.0f} seconds.")
    stage.tell("Now in front of an engine of yours: ", ("trioproxy serve --upstream URL", "bold"))
    return 0


def _first_of(errors: BaseExceptionGroup[Exception]) -> Exception:
    first = errors.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first
