"""A census of what a Trio program holds: who is alive, and where in the program they came to be.

What structured concurrency promises is that nothing outlives its block. A census is how to see it
kept::

    with TaskCensus() as census:                # around one or more runs
        trio.run(main, instruments=[census])

    with TaskCensus() as census:                # or inside one
        await serve_one_request()
        await census.settled()

What is counted is what was made within the ``with`` block, and for as long as it is alive:

* a **task** until it has exited;
* a **nursery** until its block is left; its own cancel scope is not counted beside it;
* a **cancel scope** from the entering of its block until that is left. One that is made and never
  entered holds nothing. That of ``trio.sleep``, of a timeout: all are counted;
* each half of a **memory channel** until it is closed. Trio does not ask that halves be closed,
  and a channel that the program has dropped altogether harms nobody: it is not counted. But a half
  that was dropped unclosed while the other end is still open is, because trio does not close what
  is garbage: whoever waits at that other end waits for ever. (There is no stricter mode. Whole
  channels are dropped in good faith, by quart-trio for every WebSocket and by hypercorn for every
  request; a census that named those could not be used with either.)
* a **descriptor** until it is closed, of whichever thread; where the system lists them (Linux).

Not counted is what trio makes for itself, and what is made in other threads, unless it is a run
that has the census among its instruments. Inside a run, the blocks that older tasks enter are not
counted either: a server that was there before sleeps and wakes all the time. The tasks, channels
and descriptors that it comes to make are.

The census keeps nothing alive that it counts, and collects no garbage: what only the collector
would free has leaked (who thinks otherwise calls ``gc.collect()`` at the end of the block). Trio
tells its instruments of tasks; how the census learns of the rest, and which versions of trio it was
checked with, is told in :mod:`trioproxy.testing.lifetimes`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import currentframe
from operator import attrgetter
from threading import get_ident
from types import TracebackType
from typing import Any, Literal, NamedTuple
from weakref import ref

import trio
from trio.lowlevel import Task

from trioproxy.testing import lifetimes
from trioproxy.testing.descriptors import Descriptors, name_of_descriptor, open_descriptors
from trioproxy.testing.lifetimes import Making
from trioproxy.testing.stack import Call, Stack, stack_of_making, stack_of_waiting

Kind = Literal["task", "descriptor"] | lifetimes.Kind

_POLL_SECONDS = 0.005
_NOWHERE = Stack(())


@dataclass(frozen=True, slots=True)
class Alive:
    """One thing that is alive, as it was when the census was asked."""

    kind: Kind
    name: str
    """Of a task its name; of a descriptor its number, target and, of a socket, addresses; of
    anything else the name of the task that made it."""
    created: Stack = _NOWHERE
    """The stack of its making; ``str`` gives the text of a traceback. Empty for a descriptor."""
    waits: Stack = _NOWHERE
    """Of a task, the stack of its awaits."""
    dropped: bool = False
    """Whether nobody has it any more, so that nobody can end it."""

    def __str__(self) -> str:
        of = "" if self.kind in ("task", "descriptor") else "of "
        lines = [f"{self.kind} {of}{self.name}{', dropped unclosed' if self.dropped else ''}"]
        if self.created.calls:
            lines += ["made at", str(self.created)]
        if self.waits.calls:
            lines += ["waiting at", str(self.waits)]
        return "\n".join(lines)


class Leaked(AssertionError):
    """Something is alive that should not be. ``alive`` tells what; so does the message."""

    def __init__(self, alive: Sequence[Alive], after: float = 0) -> None:
        self.alive = tuple(alive)
        kinds = Counter(one.kind for one in alive)
        counts = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
        when = f" after {after} s" if after else ""
        super().__init__("\n".join([f"still alive{when}: {counts}", *map(str, alive)]))


class _Entry(NamedTuple):
    kind: Kind
    name: str
    calls: list[Call]
    holder: ref[Task] | None = None
    """Whose block it is; a task is its own."""
    channel: ref[Any] | None = None
    """Of half a channel: what both have in common, and dies with the last."""


class TaskCensus(trio.abc.Instrument):
    """See the module for what is counted. One census can be taken many times, but not twice at
    once; different ones may nest or overlap.

    Leaving the block raises :exc:`Leaked` where something is still alive. With an exception
    underway it lets that pass, and adds a note with what is alive.
    """

    def __init__(self) -> None:
        self._entries: dict[ref[Any], _Entry] = {}
        self._thread = 0
        self._older_tasks: frozenset[ref[Task]] = frozenset()
        self._older_descriptors: Descriptors = frozenset()
        self._descriptors_of_runs: dict[int, Descriptors] = {}

    def __enter__(self) -> TaskCensus:
        older_descriptors = open_descriptors()
        lifetimes.watch(self._opened, self._closed)
        self._entries.clear()
        self._thread = get_ident()
        self._older_descriptors = older_descriptors
        if trio.lowlevel.in_trio_task():
            self._older_tasks = frozenset(map(ref, _live_tasks())) - {_caller()}
            trio.lowlevel.add_instrument(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        alive = self.alive
        lifetimes.unwatch(self._opened, self._closed)
        if trio.lowlevel.in_trio_task():
            trio.lowlevel.remove_instrument(self)
        if alive and exc is None:
            raise Leaked(alive)
        if alive and exc is not None:
            exc.add_note(str(Leaked(alive)))

    @property
    def alive(self) -> tuple[Alive, ...]:
        """What is alive now, in the order in which it was made, then descriptors. Within the block
        only; after it nobody tells the census what ends."""
        return tuple(self._alive())

    @property
    def counts(self) -> Counter[Kind]:
        """How many of each kind are alive now."""
        return Counter(one.kind for one in self.alive)

    async def settled(self, within: float = 1.0) -> None:
        """Wait until nothing is alive, apart from the calling task and the blocks that it is in:
        they cannot end while it waits.

        Where that is so already it returns without a checkpoint, so that what it saw still holds.
        Cancelling it ends the waiting and has no other effect.

        Raises :exc:`Leaked` where something is still alive after ``within`` seconds.
        """
        caller = _caller()
        ends_at = trio.current_time() + within
        # Polled, because nothing tells that a descriptor was closed.
        while alive := tuple(self._alive(besides=caller)):
            if trio.current_time() >= ends_at:
                raise Leaked(alive, after=within)
            await trio.sleep(_POLL_SECONDS)

    def _alive(self, besides: ref[Task] | None = None) -> Iterator[Alive]:
        # Copied in one step: other threads and finalizers may come between any two.
        for thing, entry in self._entries.copy().items():
            held = thing()
            if entry.holder is not None and entry.holder == besides:
                continue
            if held is None and entry.channel is not None and not _is_missed(entry):
                continue
            waits = stack_of_waiting(held) if isinstance(held, Task) else _NOWHERE
            created = stack_of_making(entry.calls)
            yield Alive(entry.kind, entry.name, created, waits, dropped=held is None)
        known = self._older_descriptors.union(*self._descriptors_of_runs.copy().values())
        for descriptor in sorted(open_descriptors() - known):
            yield Alive("descriptor", name_of_descriptor(*descriptor))

    # What is told of scopes, nurseries and channels.

    def _opened(self, kind: lifetimes.Kind, thing: object, made: Making) -> None:
        thread = get_ident()
        if thread != self._thread and thread not in self._descriptors_of_runs:
            return
        key = ref(thing)
        name, holder, channel = "no task", None, None
        if made.maker is not None:
            name = made.maker.name
        if kind == "send channel" or kind == "receive channel":
            # Dropped unclosed, a half is forgotten together with its channel, not before.
            channel = ref(_channel_of(thing), partial(self._entries.pop, key))
        elif made.maker is not None:
            holder = ref(made.maker)
            if holder in self._older_tasks:
                return
        self._entries[key] = _Entry(kind, name, made.calls, holder, channel)

    def _closed(self, thing: object) -> None:
        self._entries.pop(ref(thing), None)

    # What trio tells an instrument.

    def before_run(self) -> None:
        # The selector and the wake-up sockets of the run, and whatever else was opened since the
        # census began: that is named again when the run is over.
        self._descriptors_of_runs[get_ident()] = open_descriptors() - self._older_descriptors

    def after_run(self) -> None:
        self._descriptors_of_runs.pop(get_ident(), None)

    def task_spawned(self, task: Task) -> None:
        made = lifetimes.making(currentframe())
        if made is not None and task.parent_nursery is not None:
            key = ref(task)
            self._entries[key] = _Entry("task", task.name, made.calls, holder=key)

    def task_exited(self, task: Task) -> None:
        self._closed(task)


_channel_of = attrgetter("_state")


def _is_missed(half: _Entry) -> bool:
    """Whether somebody might still wait at the other end of this half, which was dropped."""
    channel = None if half.channel is None else half.channel()
    if channel is None:
        return False
    statistics: trio.MemoryChannelStatistics = channel.statistics()
    if half.kind == "send channel":
        return statistics.open_receive_channels > 0
    return statistics.open_send_channels > 0


def _caller() -> ref[Task]:
    return ref(trio.lowlevel.current_task())


def _live_tasks() -> Iterator[Task]:
    """Every task of this run, system tasks included, from the root down."""
    root = trio.lowlevel.current_root_task()
    pending = [] if root is None else [root]
    while pending:
        task = pending.pop()
        yield task
        for nursery in task.child_nurseries:
            pending.extend(nursery.child_tasks)
