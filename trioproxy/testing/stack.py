"""Stacks that are taken down in passing, and written out only if somebody asks.

A stack is kept as code objects and instruction offsets: no frame, hence no local variable, is kept
alive by it, and line numbers are worked out and source files read when it is printed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import dropwhile, islice
from traceback import FrameSummary, StackSummary
from types import CodeType, FrameType

import trio
from trio.lowlevel import Task

MAX_CALLS = 32
"""So many calls of a stack are kept, the innermost ones."""

_TRIO = os.path.dirname(trio.__file__) + os.sep

Call = tuple[CodeType, int]
"""A function, and the offset in bytes of the instruction in it that was being run."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Calls, the outermost first. ``str`` gives the text that a traceback has for them."""

    calls: tuple[Call, ...]

    def __str__(self) -> str:
        return "".join(StackSummary.from_list(map(_summary, self.calls)).format()).rstrip()


def innermost_calls(frame: FrameType | None, bottom: FrameType | None) -> list[Call]:
    """The call that ``frame`` runs, its caller and so on, as far as ``bottom`` (or the thread's own
    beginning), but no more than :data:`MAX_CALLS`."""
    calls: list[Call] = []
    while frame is not None and len(calls) < MAX_CALLS:
        calls.append((frame.f_code, frame.f_lasti))
        if frame is bottom:
            break
        frame = frame.f_back
    return calls


def stack_of_making(innermost_first: Iterable[Call]) -> Stack:
    """The stack on which a thing of trio's was made, without trio's own calls at the inner end: it
    ends in the line that asked for it."""
    calls = list(innermost_first)
    asked = list(dropwhile(_is_trios, calls)) or calls
    return Stack(tuple(reversed(asked)))


def stack_of_waiting(task: Task) -> Stack:
    """Where a task waits: the calls that it awaits. Of a task that is running, its first call."""
    return Stack(tuple((frame.f_code, frame.f_lasti) for frame, _ in task.iter_await_frames()))


def _is_trios(call: Call) -> bool:
    return call[0].co_filename.startswith(_TRIO)


def _summary(call: Call) -> FrameSummary:
    code, offset = call
    # One entry for every two bytes; of an instruction that no line stands for, the line is None.
    line = next(islice(code.co_positions(), max(offset, 0) // 2, None))[0]
    name = code.co_name
    return FrameSummary(code.co_filename, line or code.co_firstlineno, name, lookup_line=False)
