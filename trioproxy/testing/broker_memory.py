"""What a broker keeps, in memory: the same keys as in Redis, and the same steps as the scripts.

A step is a method of :class:`Memory`: it happens at once, and raises what the port says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import trio

from trioproxy.cluster.broker import (
    ENTRIES_A_READ,
    OWNER_LOST,
    SURVEY_SECONDS,
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
from trioproxy.cluster.entries import Batch, Cursor, Entry, Part, follow, pack_batch, pack_outcome
from trioproxy.cluster.errors import (
    BrokerError,
    Fenced,
    InterestLost,
    LogBehind,
    NotRunning,
    State,
)
from trioproxy.cluster.keys import (
    Account,
    Ref,
    account_of,
    alias_of,
    epoch_of,
    keys_of,
    mailbox_of,
    nodes_of,
    survey_of,
)
from trioproxy.cluster.spending import ROUNDING, WINDOW_SECONDS, Pace, Spent, of_bucket, of_window
from trioproxy.fanout.outcome import Outcome

T = TypeVar("T")

LETTERS = 1000
"""What a mailbox keeps."""


@dataclass
class _Value:
    value: Any
    expires_at: float


@dataclass
class _Meta:
    node: str
    fence: int
    lease: float
    about: bytes
    state: State = "running"
    last: int = 0
    head: bytes | None = None
    has_ended: bool = False
    alias: str | None = None


@dataclass
class Memory:
    """All keys, each with its time. ``ahead`` is by how many seconds its clock is before trio's."""

    ahead: float = 0.0
    _values: dict[str, _Value] = field(default_factory=dict[str, _Value])
    _letters: int = 0

    @property
    def now(self) -> float:
        """The time by its own clock, the only one that counts."""
        return trio.current_time() + self.ahead

    def seconds_left(self) -> dict[str, float]:
        """Of each key that is there."""
        for name in list(self._values):
            self._get(name)
        return {name: value.expires_at - self.now for name, value in self._values.items()}

    def wipe(self) -> None:
        """Forget everything."""
        self._values.clear()

    def ping(self, node: str, terms: Terms) -> float:
        self._set(nodes_of(), self._nodes() | {node: self.now + terms.lease}, terms.ttl)
        self._nodes()
        began: float | None = self._get(epoch_of())
        if began is None:
            began = self.now
        self._set(epoch_of(), began, terms.ttl)
        return self.now - began

    # -- of whoever comes --------------------------------------------------------------------------

    def elect(self, ref: Ref, about: bytes, node: str, terms: Terms) -> Lease | Running:
        keys = keys_of(ref)
        holder = self._get(keys.holder)
        if holder is not None and holder != ref.generation:
            of_holder = Ref(ref.request, holder)
            meta: _Meta | None = self._get(keys_of(of_holder).meta)
            if meta is not None and meta.state in ("running", "closing"):
                left, is_closing = meta.lease - self.now, meta.state == "closing"
                return Running(of_holder, meta.node, meta.fence, left, is_closing)
        if self._get(keys.meta) is None:
            self._set(keys.meta, _Meta(node, 1, self.now + terms.lease, about), terms.ttl)
        meta = self._meta(ref, None, "running")
        if meta.node != node:
            return Running(ref, meta.node, meta.fence, meta.lease - self.now)
        self._set(keys.holder, ref.generation, terms.ttl)
        return Lease(ref, meta.fence)

    def reap(self, ref: Ref, terms: Terms) -> bool:
        meta = self._meta(ref, None, "running", "closing", "lost")
        if meta.state == "lost":
            return True
        if meta.lease > self.now:
            return False
        meta.fence += 1
        self._end(ref, meta, "lost", pack_outcome(OWNER_LOST), terms)
        return True

    def look(self, ref: Ref) -> Known:
        meta = self._meta(ref, None, "running", "closing", "retired", "ended", "lost")
        return Known(meta.node, meta.state, meta.about, meta.last)

    def resolve(self, alias: str) -> Ref | None:
        return self._get(alias_of(alias))

    # -- of a node that reads ----------------------------------------------------------------------

    def join(self, ref: Ref, node: str, terms: Terms, revive: bool) -> Joined:
        allowed: list[State] = ["running", "retired"] if revive else ["running"]
        meta = self._meta(ref, None, *allowed)
        if meta.state == "retired":
            meta.state, meta.lease = "running", self.now + terms.lease
            self._keep(keys_of(ref).meta, terms.ttl)
        interest = self._interest(ref)
        self._set(keys_of(ref).interest, interest | {node: self.now + terms.lease}, terms.ttl)
        if not interest:
            self.send(meta.node, Letter("wake", ref, node), terms)
        left = meta.lease - self.now
        return Joined(meta.node, meta.fence, left, meta.last, meta.head, meta.about)

    def keep_interest(
        self, refs: Sequence[Ref], node: str, terms: Terms
    ) -> Sequence[float | BrokerError]:
        return [_said(self._stay, ref, node, terms) for ref in refs]

    def _stay(self, ref: Ref, node: str, terms: Terms) -> float:
        meta = self._meta(ref, None, "running")
        interest = self._interest(ref)
        if node not in interest:
            raise InterestLost("this node's interest had run out")
        self._set(keys_of(ref).interest, interest | {node: self.now + terms.lease}, terms.ttl)
        return meta.lease - self.now

    def leave(self, ref: Ref, node: str, terms: Terms) -> None:
        interest: dict[str, float] = self._get(keys_of(ref).interest) or {}
        if interest.pop(node, None) is None or self._interest(ref):
            return
        meta: _Meta | None = self._get(keys_of(ref).meta)
        if meta is not None and meta.state == "running":
            self.send(meta.node, Letter("leave", ref, node), terms)

    def send(self, node: str, letter: Letter, terms: Terms) -> None:
        self._letters += 1
        name = mailbox_of(node)
        letters: list[tuple[int, Letter]] = self._get(name) or []
        self._set(name, [*letters, (self._letters, letter)][-LETTERS:], terms.ttl)

    def read(self, node: str, logs: Mapping[Ref, Cursor], mail: str) -> News | None:
        """None where there is nothing new."""
        count = max(1, ENTRIES_A_READ // (len(logs) + 1))
        after = int(mail.partition("-")[0])
        mailbox: list[tuple[int, Letter]] = self._get(mailbox_of(node)) or []
        letters = [one for one in mailbox if one[0] > after][:count]
        news: dict[Ref, tuple[Cursor, Sequence[Part]]] = {}
        for ref, cursor in logs.items():
            entries: list[Entry] = self._get(keys_of(ref).log) or []
            new = [entry for entry in entries if (entry.fence, entry.seq) > cursor][:count]
            if new:
                news[ref] = follow(cursor, new)
        if not letters and not news:
            return None
        place = f"{letters[-1][0]}-0" if letters else mail
        return News([letter for _, letter in letters], place, news)

    # -- of an owner -------------------------------------------------------------------------------

    def renew(self, leases: Sequence[Lease], terms: Terms) -> Sequence[int | BrokerError]:
        return [_said(self._renew, lease, terms) for lease in leases]

    def _renew(self, lease: Lease, terms: Terms) -> int:
        meta = self._meta(lease.ref, lease.fence, "running", "closing")
        meta.state = "running"
        self._hold(lease.ref, meta, terms)
        return len(self._interest(lease.ref))

    def open(self, lease: Lease, head: bytes, terms: Terms) -> None:
        meta = self._meta(lease.ref, lease.fence, "running")
        if meta.head is not None:
            return
        meta.head = head
        if self._get(keys_of(lease.ref).log) is None:
            self._append(lease.ref, Entry(lease.fence, 0, {b"h": head}), terms.ttl, terms)

    def publish(self, additions: Sequence[Addition], terms: Terms) -> Sequence[BrokerError | None]:
        return [_said(self._add, addition, terms) for addition in additions]

    def _add(self, addition: Addition, terms: Terms) -> None:
        lease, batch, after, alias = addition
        payload = pack_batch(batch)
        meta = self._meta(lease.ref, lease.fence, "running")
        if meta.last < after:
            raise LogBehind(meta.last)
        if meta.last < batch.last:
            entry = Entry(lease.fence, batch.last, {b"e": payload})
            self._append(lease.ref, entry, terms.ttl, terms)
            meta.last = batch.last
            if alias is not None and meta.alias is None:
                meta.alias = alias_of(alias)
                self._set(meta.alias, lease.ref, terms.ttl)

    def close_if_empty(self, lease: Lease, terms: Terms) -> bool:
        meta = self._meta(lease.ref, lease.fence, "running", "closing")
        if self._interest(lease.ref):
            return False
        meta.state = "closing"
        return True

    def retire(self, lease: Lease, terms: Terms) -> bool:
        meta = self._meta(lease.ref, lease.fence, "running", "closing", "retired")
        if self._interest(lease.ref):
            return False
        keys = keys_of(lease.ref)
        meta.state, meta.has_ended, meta.last, meta.head = "retired", True, 0, None
        self._values.pop(keys.log, None)
        self._free_request(lease.ref)
        self._keep_named(meta, keys.meta, seconds=terms.retention)
        return True

    def finish(
        self, lease: Lease, outcome: Outcome, last: int, detail: bytes, terms: Terms
    ) -> None:
        meta = self._meta(lease.ref, lease.fence, "running", "closing", "ended")
        if meta.state != "ended":
            meta.last = max(last, meta.last)
            self._end(lease.ref, meta, "ended", pack_outcome(outcome, detail), terms)

    def restore(
        self,
        lease: Lease,
        node: str,
        about: bytes,
        head: bytes | None,
        batch: Batch | None,
        is_wanted: bool,
        terms: Terms,
    ) -> Restored:
        keys = keys_of(lease.ref)
        meta: _Meta | None = self._get(keys.meta)
        if meta is not None:
            self._meta(lease.ref, lease.fence, "running")
        else:
            self._values.pop(keys.interest, None)
            self._values.pop(keys.log, None)
            if is_wanted:
                self._set(keys.interest, {node: self.now + terms.lease}, terms.ttl)
            meta = _Meta(node, lease.fence, 0.0, about, head=head)
            self._set(keys.meta, meta, terms.ttl)
            if head is not None:
                self._append(lease.ref, Entry(lease.fence, 0, {b"h": head}), terms.ttl, terms)
            if batch is not None:
                self._add(Addition(lease, batch, 0), terms)
        self._hold(lease.ref, meta, terms)
        return Restored(meta.last, self._get(keys.holder) == lease.ref.generation)

    # -- of all nodes together ---------------------------------------------------------------------

    def spend(self, account: Account, pace: Pace, cost: int, mark: str) -> Spent:
        if pace.burst is None:
            return self._spend_window(account, pace, cost, mark)
        name, per_second = account_of(account, pace.kind), pace.per_minute / 60
        taken, since = self._get(name) or (0.0, self.now)
        taken = max(0.0, taken - max(0.0, self.now - since) * per_second)
        is_there = taken + cost - pace.burst <= ROUNDING
        if is_there:
            taken = max(0.0, taken + cost)
            self._set(name, (taken, self.now), taken / per_second)
        return of_bucket(pace, is_there, taken)

    def _spend_window(self, account: Account, pace: Pace, cost: int, mark: str) -> Spent:
        name, most, at = account_of(account, pace.kind), int(pace.per_minute), self.now
        known: list[float] = self._get(name) or []
        ends = [end for end in known if end > at]
        if cost < 0 and float(mark) in ends:
            ends.remove(float(mark))
        has_room = cost <= 0 or len(ends) < most
        if has_room and cost > 0:
            ends.append(at + WINDOW_SECONDS)
        left = [end - at for end in ends]
        reset = left[-1] if left else 0.0
        wait = left[len(left) - most] if len(left) >= most else 0.0
        self._set(name, ends, reset)
        return of_window(pace, has_room, len(ends), reset, wait, repr(at + WINDOW_SECONDS))

    def hold(self, account: Account, number: int, most: float, node: str, terms: Terms) -> int:
        others, own = self._held(account, node)
        number = min(number, max(math.floor(most) - others, own))
        self.keep_holding(account, number, node, terms)
        return number

    def keep_holding(self, account: Account, number: int, node: str, terms: Terms) -> int:
        others, _ = self._held(account, node)
        name = account_of(account, "pool")
        pool: dict[str, tuple[float, int]] = self._get(name) or {}
        if number:
            self._set(name, pool | {node: (self.now + terms.lease, number)}, terms.ttl)
        elif pool.pop(node, None) and not pool:
            del self._values[name]
        return others

    def _held(self, account: Account, node: str) -> tuple[int, int]:
        """How many the others have, and how many this one."""
        name = account_of(account, "pool")
        pool: dict[str, tuple[float, int]] = self._get(name) or {}
        for other in [other for other, (until, _) in pool.items() if until <= self.now]:
            del pool[other]
        if not pool:
            self._values.pop(name, None)
        own = pool[node][1] if node in pool else 0
        return sum(number for _, number in pool.values()) - own, own

    # -- of who asks other nodes -------------------------------------------------------------------

    def depart(self, node: str) -> None:
        self._nodes().pop(node, None)
        self._nodes()

    def ask(
        self, survey: Ref, question: bytes, of: str | None, node: str, terms: Terms
    ) -> list[str]:
        self._set(survey_of(survey), {"": question}, SURVEY_SECONDS)
        asked = [other for other in self._nodes() if other != node and of in (None, other)]
        for other in asked:
            self.send(other, Letter("ask", survey, node), terms)
        return asked

    def question(self, survey: Ref) -> bytes | None:
        said: dict[str, bytes] = self._get(survey_of(survey)) or {}
        return said.get("")

    def answer(self, survey: Ref, answer: bytes, to: str, node: str, terms: Terms) -> None:
        said: dict[str, bytes] | None = self._get(survey_of(survey))
        if said is not None:
            said[node] = answer
            self.send(to, Letter("answered", survey, node), terms)

    def answers(self, survey: Ref) -> dict[str, bytes]:
        said: dict[str, bytes] = self._get(survey_of(survey)) or {}
        return {node: answer for node, answer in said.items() if node}

    def _nodes(self) -> dict[str, float]:
        nodes: dict[str, float] = self._get(nodes_of()) or {}
        for node in [node for node, until in nodes.items() if until <= self.now]:
            del nodes[node]
        if not nodes:
            self._values.pop(nodes_of(), None)
        return nodes

    # -- keys --------------------------------------------------------------------------------------

    def _get(self, name: str) -> Any:
        found = self._values.get(name)
        if found is not None and found.expires_at <= self.now:
            del self._values[name]
            return None
        return found and found.value

    def _set(self, name: str, value: object, seconds: float) -> None:
        self._values[name] = _Value(value, self.now + seconds)

    def _keep(self, name: str, seconds: float) -> None:
        if self._get(name) is not None:
            self._values[name].expires_at = self.now + seconds

    def _keep_named(self, meta: _Meta, *names: str, seconds: float) -> None:
        """These, and the alias."""
        for name in (*names, meta.alias):
            if name is not None:
                self._keep(name, seconds)

    def _meta(self, ref: Ref, fence: int | None, *states: State) -> _Meta:
        meta: _Meta | None = self._get(keys_of(ref).meta)
        if meta is None:
            raise NotRunning("unknown")
        if fence is not None and fence != meta.fence:
            raise Fenced(meta.fence)
        if meta.state not in states:
            raise NotRunning(meta.state)
        return meta

    def _interest(self, ref: Ref) -> dict[str, float]:
        name = keys_of(ref).interest
        interest: dict[str, float] = self._get(name) or {}
        for node in [node for node, until in interest.items() if until <= self.now]:
            del interest[node]
        if not interest:
            self._values.pop(name, None)
        return dict(interest)

    def _hold(self, ref: Ref, meta: _Meta, terms: Terms) -> None:
        keys = keys_of(ref)
        meta.lease = self.now + terms.lease
        if not meta.has_ended and self._get(keys.holder) in (None, ref.generation):
            self._set(keys.holder, ref.generation, terms.ttl)
        self._keep_named(meta, keys.meta, keys.interest, keys.log, seconds=terms.ttl)

    def _append(self, ref: Ref, entry: Entry, seconds: float, terms: Terms) -> None:
        name = keys_of(ref).log
        entries: list[Entry] = self._get(name) or []
        self._set(name, [*entries, entry][-terms.max_entries :], seconds)

    def _end(self, ref: Ref, meta: _Meta, state: State, payload: bytes, terms: Terms) -> None:
        keys = keys_of(ref)
        meta.state = state
        entry = Entry(meta.fence, meta.last + 1, {b"o": payload})
        self._append(ref, entry, terms.retention, terms)
        self._values.pop(keys.interest, None)
        self._free_request(ref)
        self._keep_named(meta, keys.meta, seconds=terms.retention)

    def _free_request(self, ref: Ref) -> None:
        name = keys_of(ref).holder
        if self._get(name) == ref.generation:
            del self._values[name]


def _said(step: Callable[..., T], *arguments: object) -> T | BrokerError:
    """What came of one step of several, which fail each for itself."""
    try:
        return step(*arguments)
    except BrokerError as error:
        return error
