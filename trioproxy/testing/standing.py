"""Where the tasks of a run stand."""

from __future__ import annotations

from collections.abc import Iterator

import trio
from trio.lowlevel import Task

from trioproxy.testing.stack import stack_of_waiting


def tasks_of_run() -> list[Task]:
    """The main task of this run, and every task below it; none where it is over.

    May be called from an instrument.
    """
    root = trio.lowlevel.current_root_task()
    assert root is not None
    main_nursery = root.child_nurseries[-1]  # the last that trio opens before it runs anything
    return [task for main in main_nursery.child_tasks for task in _tasks_from(main)]


def where_tasks_stand() -> str:
    """Each of these tasks with the calls that it awaits, as text."""
    return "\n".join(f"task {task.name}:\n{stack_of_waiting(task)}" for task in tasks_of_run())


def _tasks_from(task: Task) -> Iterator[Task]:
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _tasks_from(child)
