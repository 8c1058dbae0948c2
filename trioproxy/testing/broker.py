"""A broker in memory, on trio's clock, with switches for what can go wrong.

Each node has its own port to it (:meth:`FakeBroker.port`), and all of them share what it keeps. Its
steps are those of the scripts: what passes on one passes on the other.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import trio

from trioproxy.cluster.broker import (
    Addition,
    Joined,
    Known,
    Lease,
    Letter,
    News,
    Restored,
    Running,
    Terms,
)
from trioproxy.cluster.entries import Batch, Cursor
from trioproxy.cluster.errors import BrokerDown, BrokerError, BrokerFull
from trioproxy.cluster.keys import Account, Ref
from trioproxy.cluster.spending import Pace, Spent
from trioproxy.fanout.outcome import Outcome
from trioproxy.testing.broker_memory import Memory

T = TypeVar("T")

DEADLINE = 2.0
"""Seconds that an answer may take."""

JUDGED_AFTER = 3.0
"""A broker that has stopped for so many seconds counts as down."""


class FakeBroker:
    """What the nodes share. ``delay`` is how many seconds an operation takes, there and back;
    while it ``is_full``, what needs memory is refused. ``operations`` counts what was done."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.delay = 0.0
        self.is_full = False
        self.operations = 0
        self._cut: set[str] = set()
        self._lost_replies: dict[str, int] = {}
        self._up_since: dict[str, float] = {}
        self._stopped_at = math.inf
        self._held_up: list[_Asked[Any]] = []
        self._changed = trio.lowlevel.ParkingLot()

    def port(self, node: str, terms: Terms | None = None) -> FakePort:
        """The broker as this node sees it."""
        self._up_since.setdefault(node, trio.current_time())
        return FakePort(self, node, terms or Terms())

    # -- faults ------------------------------------------------------------------------------------

    def cut(self, node: str) -> None:
        """Part the node from it: the link is lost."""
        self._cut.add(node)
        self._changed.unpark_all()

    def mend(self, node: str) -> None:
        """Let the node have a link again."""
        self._cut.discard(node)
        self._up_since[node] = trio.current_time()
        self._changed.unpark_all()

    def lose_replies(self, node: str, number: int = 1) -> None:
        """Do the next so many operations of this node, and do not say so."""
        self._lost_replies[node] = number

    def stop(self) -> None:
        """Answer nothing, as a process that is stopped."""
        self._stopped_at = trio.current_time()

    def go_on(self) -> None:
        """Do what was asked meanwhile, and answer again."""
        if trio.current_time() - self._stopped_at > JUDGED_AFTER:
            self._up_since = dict.fromkeys(self._up_since, trio.current_time())
        self._stopped_at = math.inf
        held_up, self._held_up = self._held_up, []
        for asked in held_up:
            self._take(asked)

    def wipe(self) -> None:
        """Forget everything, as a broker that was restarted and kept nothing."""
        self.memory.wipe()
        self._up_since = dict.fromkeys(self._up_since, trio.current_time())

    def jump(self, seconds: float) -> None:
        """Set its clock forward, or back."""
        self.memory.ahead += seconds
        self._changed.unpark_all()

    # -- what its ports ask ------------------------------------------------------------------------

    def up_since(self, node: str) -> float | None:
        """Since when the node has its link, if it has."""
        if node in self._cut or trio.current_time() - self._stopped_at > JUDGED_AFTER:
            return None
        return self._up_since[node]

    async def wait_up(self, node: str) -> None:
        """Wait until the node has a link."""
        await trio.lowlevel.checkpoint()
        while self.up_since(node) is None:
            await self._changed.park()

    async def do(self, node: str, step: Callable[[], T], *, grows: bool = True) -> T:
        """Do a step for a node. It can be cancelled before it and after it."""
        await trio.sleep(self.delay / 2)
        if self.up_since(node) is None:
            raise BrokerDown("not connected")
        asked = _Asked(step)
        if self._stopped_at < math.inf:
            await self._wait_for_go_on(asked)
        elif self.is_full and grows:
            raise BrokerFull("no memory for more")
        else:
            self._take(asked)
        await trio.sleep(self.delay / 2)
        if node in self._cut:
            raise BrokerDown("the connection was lost")
        if self._lost_replies.get(node, 0):
            self._lost_replies[node] -= 1
            raise BrokerDown("no answer in time")
        if isinstance(asked.answer, BrokerError):
            raise asked.answer
        return asked.answer

    async def read(self, node: str, logs: Mapping[Ref, Cursor], mail: str, wait: float) -> News:
        """Wait for news."""
        ends_at = trio.current_time() + wait
        await trio.sleep(self.delay)
        while True:
            if self.up_since(node) is None:
                raise BrokerDown("not connected")
            is_stopped = self._stopped_at < math.inf
            news = None if is_stopped else self.memory.read(node, logs, mail)
            if news is not None:
                return news
            with trio.move_on_at(ends_at + DEADLINE * is_stopped) as patience:
                await self._changed.park()
            if patience.cancelled_caught:
                if is_stopped:
                    raise BrokerDown("no answer in time")
                return News([], mail, {})

    def _take(self, asked: _Asked[Any]) -> None:
        self.operations += 1
        try:
            asked.answer = asked.step()
        except BrokerError as error:
            asked.answer = error
        self._changed.unpark_all()

    async def _wait_for_go_on(self, asked: _Asked[Any]) -> None:
        """Wait for the broker to go on, or say that it is down; the step is done when it goes on,
        whether somebody waits for it or not."""
        self._held_up.append(asked)
        with trio.move_on_after(DEADLINE):
            while asked in self._held_up:
                await self._changed.park()
            return
        raise BrokerDown("no answer in time")


class _Asked(Generic[T]):
    """A step, and what came of it once it was done."""

    answer: T | BrokerError

    def __init__(self, step: Callable[[], T]) -> None:
        self.step = step


class FakePort:
    """See :class:`~trioproxy.cluster.Broker`."""

    def __init__(self, broker: FakeBroker, node: str, terms: Terms) -> None:
        self.node = node
        self.terms = terms
        self._broker = broker
        self._memory = broker.memory
        self._is_reading = False

    @property
    def up_since(self) -> float | None:
        return self._broker.up_since(self.node)

    async def wait_up(self) -> None:
        await self._broker.wait_up(self.node)

    async def ping(self) -> float:
        return await self._do(self._memory.ping, self.node, self.terms, grows=False)

    async def elect(self, ref: Ref, about: bytes) -> Lease | Running:
        return await self._do(self._memory.elect, ref, about, self.node, self.terms)

    async def look(self, ref: Ref) -> Known:
        return await self._do(self._memory.look, ref, grows=False)

    async def resolve(self, alias: str) -> Ref | None:
        return await self._do(self._memory.resolve, alias, grows=False)

    async def reap(self, ref: Ref) -> bool:
        return await self._do(self._memory.reap, ref, self.terms)

    async def join(self, ref: Ref, *, revive: bool = False) -> Joined:
        return await self._do(self._memory.join, ref, self.node, self.terms, revive)

    async def keep_interest(self, refs: Sequence[Ref]) -> Sequence[float | BrokerError]:
        return await self._do(self._memory.keep_interest, refs, self.node, self.terms, grows=False)

    async def leave(self, ref: Ref) -> None:
        await self._do(self._memory.leave, ref, self.node, self.terms)

    async def read(self, logs: Mapping[Ref, Cursor], mail: str, *, wait: float) -> News:
        if self._is_reading:
            raise trio.BusyResourceError("another task is reading")
        self._is_reading = True
        try:
            return await self._broker.read(self.node, logs, mail, wait)
        finally:
            self._is_reading = False

    async def send(self, node: str, letter: Letter) -> None:
        await self._do(self._memory.send, node, letter._replace(sender=self.node), self.terms)

    async def renew(self, leases: Sequence[Lease]) -> Sequence[int | BrokerError]:
        return await self._do(self._memory.renew, leases, self.terms, grows=False)

    async def open(self, lease: Lease, head: bytes) -> None:
        await self._do(self._memory.open, lease, head, self.terms)

    async def publish(self, additions: Sequence[Addition]) -> Sequence[BrokerError | None]:
        return await self._do(self._memory.publish, additions, self.terms)

    async def close_if_empty(self, lease: Lease) -> bool:
        return await self._do(self._memory.close_if_empty, lease, self.terms, grows=False)

    async def retire(self, lease: Lease) -> bool:
        return await self._do(self._memory.retire, lease, self.terms, grows=False)

    async def finish(
        self, lease: Lease, outcome: Outcome, *, last: int, detail: bytes = b""
    ) -> None:
        await self._do(self._memory.finish, lease, outcome, last, detail, self.terms)

    async def restore(
        self,
        lease: Lease,
        about: bytes,
        head: bytes | None,
        batch: Batch | None,
        *,
        is_wanted: bool = False,
    ) -> Restored:
        return await self._do(
            self._memory.restore, lease, self.node, about, head, batch, is_wanted, self.terms
        )

    async def spend(self, account: Account, pace: Pace) -> Spent:
        return await self._do(self._memory.spend, account, pace, 1, "")

    async def give_back(self, account: Account, pace: Pace, spent: Spent) -> None:
        await self._do(self._memory.spend, account, pace, -1, spent.mark)

    async def hold(self, account: Account, number: int, most: float) -> int:
        return await self._do(self._memory.hold, account, number, most, self.node, self.terms)

    async def keep_holding(self, account: Account, number: int) -> int:
        step = self._memory.keep_holding
        return await self._do(step, account, number, self.node, self.terms, grows=False)

    async def depart(self) -> None:
        await self._do(self._memory.depart, self.node, grows=False)

    async def ask(self, survey: Ref, question: bytes, *, of: str | None = None) -> Sequence[str]:
        return await self._do(self._memory.ask, survey, question, of, self.node, self.terms)

    async def question(self, survey: Ref) -> bytes | None:
        return await self._do(self._memory.question, survey, grows=False)

    async def answer(self, survey: Ref, answer: bytes, *, to: str) -> None:
        await self._do(self._memory.answer, survey, answer, to, self.node, self.terms)

    async def answers(self, survey: Ref) -> Mapping[str, bytes]:
        return await self._do(self._memory.answers, survey, grows=False)

    async def _do(self, step: Callable[..., T], *arguments: object, grows: bool = True) -> T:
        done = functools.partial(step, *arguments)
        return await self._broker.do(self.node, done, grows=grows)
