"""The beginnings and ends of what trio itself tells nobody about: cancel scopes, nurseries, and the
halves of memory channels.

Trio tells an instrument of every task, but has no hook for these. So as long as somebody watches,
and only so long, seven methods of trio's public classes are wrapped (:data:`PLACES`): what begins a
lifetime and what ends it. They are put back, the very same functions, when the last one has
stopped watching. Wrappers change neither arguments nor results, and where trio protects a method
from ``KeyboardInterrupt``, they are protected too.

Checked with trio 0.31 to 0.35.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from inspect import currentframe
from operator import attrgetter
from types import FrameType
from typing import Any, Literal, NamedTuple

import trio
from trio.lowlevel import Task, current_task, enable_ki_protection

from trioproxy.testing.stack import Call, innermost_calls

_Method = Callable[..., Any]

Kind = Literal["cancel scope", "nursery", "send channel", "receive channel"]


class Making(NamedTuple):
    """How something came to be."""

    maker: Task | None
    """The task that made it, if one did."""
    calls: list[Call]
    """What that task was doing, the innermost call first."""


Opened = Callable[[Kind, object, Making], object]
"""Told of what is alive from now on. A nursery is known by its cancel scope: that is told of first
as a scope and then, once more, as a nursery."""

Closed = Callable[[object], object]
"""Told of what is over: of scopes, that of a nursery among them, and of halves."""


_watchers: tuple[tuple[Opened, Closed], ...] = ()
_originals: list[tuple[type, str, _Method]] = []
_replacing = threading.Lock()


def watch(opened: Opened, closed: Closed) -> None:
    """Call these from now on, in whatever thread it happens. They are called in the middle of
    trio's own work, and must not raise.

    Raises :exc:`RuntimeError` if they are called already.
    """
    global _watchers
    with _replacing:
        if (opened, closed) in _watchers:
            raise RuntimeError("watching already")
        if not _watchers:
            for owner, name, wrap in PLACES:
                original = vars(owner)[name]
                setattr(owner, name, wrap(original))
                _originals.append((owner, name, original))
        _watchers = (*_watchers, (opened, closed))


def unwatch(opened: Opened, closed: Closed) -> None:
    """Call them no more."""
    global _watchers
    with _replacing:
        _watchers = tuple(watcher for watcher in _watchers if watcher != (opened, closed))
        while _originals and not _watchers:
            setattr(*_originals.pop())


def making(here: FrameType | None) -> Making | None:
    """How what is made just now is made, ``here`` being the frame that takes notice of it: its
    caller's call is the innermost of the making. None if it is trio's own: whatever the root of all
    tasks makes is.

    The caller passes its frame on and keeps it in no variable, for a frame that holds itself is
    garbage that only the collector frees.
    """
    asked = None if here is None else here.f_back
    try:
        maker = current_task()
    except RuntimeError:
        return Making(None, innermost_calls(asked, None))
    if maker.parent_nursery is None:
        return None
    return Making(maker, innermost_calls(asked, maker.coro.cr_frame))


def _opened(kind: Kind, thing: object, here: FrameType | None) -> None:
    made = making(here)
    if made is not None:
        for opened, _ in _watchers:
            opened(kind, thing, made)


def _closed(thing: object) -> None:
    for _, closed in _watchers:
        closed(thing)


_status_of = attrgetter("_cancel_status")


def _entering_a_scope(enter: _Method) -> _Method:
    @wraps(enter)
    @enable_ki_protection
    def wrapper(scope: trio.CancelScope) -> trio.CancelScope:
        enter(scope)
        _opened("cancel scope", scope, currentframe())
        return scope

    return wrapper


def _leaving_a_scope(close: _Method) -> _Method:
    @wraps(close)
    @enable_ki_protection
    def wrapper(scope: trio.CancelScope, exc: BaseException | None) -> BaseException | None:
        remaining = close(scope, exc)
        if _status_of(scope) is None:  # it is still there if an unrelated task tried to leave it
            _closed(scope)
        return remaining

    return wrapper


def _making_a_nursery(init: _Method) -> _Method:
    @wraps(init)
    def wrapper(nursery: trio.Nursery, *args: object, **kwargs: object) -> None:
        init(nursery, *args, **kwargs)
        _opened("nursery", nursery.cancel_scope, currentframe())

    return wrapper


def _making_a_half(kind: Kind) -> Callable[[_Method], _Method]:
    def wrap(init: _Method) -> _Method:
        @wraps(init)
        def wrapper(half: object, *args: object, **kwargs: object) -> None:
            init(half, *args, **kwargs)
            _opened(kind, half, currentframe())

        return wrapper

    return wrap


def _closing_a_half(close: _Method) -> _Method:
    @wraps(close)
    @enable_ki_protection
    def wrapper(half: object) -> None:
        close(half)
        _closed(half)

    return wrapper


PLACES: tuple[tuple[type, str, Callable[[_Method], _Method]], ...] = (
    (trio.CancelScope, "__enter__", _entering_a_scope),
    # Called by __exit__, and by a nursery's __aexit__.
    (trio.CancelScope, "_close", _leaving_a_scope),
    (trio.Nursery, "__init__", _making_a_nursery),
    (trio.MemorySendChannel, "__init__", _making_a_half("send channel")),
    # Called by __exit__ and aclose.
    (trio.MemorySendChannel, "close", _closing_a_half),
    (trio.MemoryReceiveChannel, "__init__", _making_a_half("receive channel")),
    (trio.MemoryReceiveChannel, "close", _closing_a_half),
)
"""What is wrapped: the class, the method, and how."""
