"""A census of what this process holds open: file descriptors and Trio tasks.

A test takes a `Baseline`, does its worst, and waits for everything that is new to be gone. New is
meant by identity: one resource that leaks while another ends is still found. Garbage is not
collected, because what only the collector frees has leaked.
"""

import os
import socket
import traceback
from collections.abc import Iterator
from pathlib import Path
from weakref import WeakSet

import trio
from trio.lowlevel import Task

_POLL_SECONDS = 0.005
_FDS = Path("/proc/self/fd")


class Baseline:
    """What was open when it was made. Must be made, and awaited, inside Trio."""

    def __init__(self) -> None:
        self._fds = frozenset(_open_fds().items())
        # Weak: a strong reference to a finished task would keep its frames, and all they hold.
        self._tasks = WeakSet(_live_tasks())

    async def settled(self, within: float = 1.0) -> None:
        """Wait until nothing is open but what the baseline knew.

        Cancelling it ends the waiting and has no other effect.

        Raises:
            AssertionError: after `within` seconds something new is still there. It names each task,
                with the stack of its awaits, and each descriptor, with the addresses of a socket.
        """
        with trio.move_on_after(within):
            # Polled, because nothing tells that a descriptor was closed.
            while self._extra_tasks() or self._extra_fds():  # noqa: ASYNC110
                await trio.sleep(_POLL_SECONDS)
            return
        tasks, fds = self._extra_tasks(), self._extra_fds()
        if tasks or fds:
            counted = f"{len(tasks)} tasks and {len(fds)} descriptors left after {within} s"
            raise AssertionError(
                "\n".join([counted, *map(_describe_task, tasks), *map(_describe_fd, fds)])
            )

    def _extra_tasks(self) -> list[Task]:
        return [task for task in _live_tasks() if task not in self._tasks]

    def _extra_fds(self) -> list[tuple[int, str]]:
        return sorted(_open_fds().items() - self._fds)


def _live_tasks() -> Iterator[Task]:
    """Every task of this run, system tasks included, from the root down."""
    root = trio.lowlevel.current_root_task()
    pending = [] if root is None else [root]
    while pending:
        task = pending.pop()
        yield task
        for nursery in task.child_nurseries:
            pending.extend(nursery.child_tasks)


def _open_fds() -> dict[int, str]:
    """Each open descriptor and what it refers to; a socket's or a pipe's target is unique to it."""
    targets: dict[int, str] = {}
    for entry in os.listdir(_FDS):
        try:
            targets[int(entry)] = os.readlink(_FDS / entry)
        except FileNotFoundError:
            continue  # the descriptor that listed the directory is gone by now
    return targets


def _describe_task(task: Task) -> str:
    stack = traceback.StackSummary.extract(task.iter_await_frames())
    return f"task {task.name}\n{''.join(stack.format())}".rstrip()


def _describe_fd(extra: tuple[int, str]) -> str:
    fd, target = extra
    if not target.startswith("socket:"):
        return f"fd {fd} {target}"
    with socket.socket(fileno=os.dup(fd)) as duplicate:
        try:
            peer = duplicate.getpeername()
        except OSError:
            peer = "nobody"
        return f"fd {fd} {target} {duplicate.getsockname()} connected to {peer}"
