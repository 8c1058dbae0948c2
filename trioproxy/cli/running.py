"""How commands run and fail: until a signal comes, and without a traceback."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar, cast

import click
import trio

_T = TypeVar("_T")


class WrongSetting(click.ClickException):
    """Told without a reminder of the usage, for the wrong value may stand in a file."""

    exit_code = 2


async def until_signalled(run: Callable[[], Awaitable[_T]]) -> _T | None:
    """What `run` returns, or None where SIGINT or SIGTERM came first and cancelled it."""
    result = None
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_next, signals, nursery.cancel_scope)
            result = await run()
            nursery.cancel_scope.cancel(reason="done")
    return result


async def _cancel_on_next(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await anext(signals)
    scope.cancel(reason="a signal came")


def single_error(error: Exception) -> Exception | None:
    """The exception itself, or the one that a chain of groups of one comes down to."""
    while isinstance(error, ExceptionGroup):
        error, *others = cast("tuple[Exception, ...]", error.exceptions)
        if others:
            return None
    return error


def os_error(error: Exception) -> OSError | None:
    """The same, if it is an `OSError`."""
    single = single_error(error)
    return single if isinstance(single, OSError) else None


def cannot_listen(where: str, error: OSError) -> click.ClickException:
    return click.ClickException(f"cannot listen on {where}: {error.strerror or error}")
