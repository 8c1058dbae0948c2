"""The port to what all nodes share.

A broker holds, of each generation that more than one node may read: who owns it and until when
(its lease), which other nodes are interested and until when, and its log. The clock is the broker's
own; no node's is ever compared with another's.

Every operation is one atomic step in the broker, and may be asked again with the same result, but
for those that say so: who was told :class:`BrokerDown` asks again when the broker is up. A
cancelled operation may have been done, as one that was told :class:`BrokerDown`; those that follow
it are not disturbed. All raise :class:`BrokerDown`, :class:`BrokerFull` where memory is asked for,
and :class:`BrokerRefused`; what else they raise, they say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from trioproxy.cluster.entries import Batch, Cursor, Part
from trioproxy.cluster.errors import BrokerError, State
from trioproxy.cluster.keys import Account, Ref
from trioproxy.cluster.spending import Pace, Spent
from trioproxy.fanout.outcome import Outcome, failed

OWNER_LOST = failed("owner_lost")
"""The outcome of a generation that was reaped."""

ENTRIES_A_READ = 256
"""How many entries a read brings of all logs together; of each one at least."""

MAIL_START = "0-0"
"""The place in a mailbox before its first letter."""

Word = Literal["wake", "leave", "cancel", "ask", "answered"]
"""Of a generation: somebody is interested; nobody is any more; it is to end for everyone. Of a
survey: there is a question; there is an answer."""

SURVEY_SECONDS = 3.0
"""For how long a question waits in the broker to be answered, and its answers to be heard."""


@dataclass(frozen=True, slots=True)
class Terms:
    """For how long things hold, in seconds, unless renewed: the ``lease`` of an owner and the
    interest of a node; any key of what runs (``ttl``); what has ended (``retention``).
    ``max_entries`` is what a log keeps, about."""

    lease: float = 6.0
    ttl: float = 60.0
    retention: float = 600.0
    max_entries: int = 65_536


class Lease(NamedTuple):
    """What an owner holds. Every write of it is checked against ``fence``."""

    ref: Ref
    fence: int


class Running(NamedTuple):
    """A generation that another node, or another caller, owns. ``lease_left`` in seconds is below 0
    where its lease ran out and nobody has reaped it. One that ``is_closing`` cannot be joined; a
    moment later the request is free."""

    ref: Ref
    node: str
    fence: int
    lease_left: float
    is_closing: bool = False


class Known(NamedTuple):
    """What there is of a generation: its owner, its state, what the owner told ``about`` it, and
    the ``last`` seq in its log (0: none)."""

    node: str
    state: State
    about: bytes
    last: int


class Joined(NamedTuple):
    """What a node that is interested now knows: what :class:`Running` tells, the last seq in the
    log (0: none), the head if it was told, and what the owner told ``about`` it."""

    node: str
    fence: int
    lease_left: float
    last: int
    head: bytes | None
    about: bytes


class Restored(NamedTuple):
    """The ``last`` seq in the log, to be published from; and whether the request is this
    generation's still, or another holds it by now."""

    last: int
    holds_request: bool


class Addition(NamedTuple):
    """Events for a log, as one entry. ``after`` is the last seq that was published; those that the
    batch does not bring itself are told as a gap. By its ``alias``, if it has one, the generation
    can be found (:meth:`Broker.resolve`) for as long as its log is there."""

    lease: Lease
    batch: Batch
    after: int
    alias: str | None = None


class Letter(NamedTuple):
    """What a mailbox brings. ``ref`` is a generation or a survey, ``sender`` a node."""

    word: Word
    ref: Ref
    sender: str


class News(NamedTuple):
    """What a read brought: letters, and the place after them; of each log that has grown, its parts
    and the place after those."""

    letters: Sequence[Letter]
    mail: str
    logs: Mapping[Ref, tuple[Cursor, Sequence[Part]]]


class Broker(Protocol):
    """The broker, as one node sees it.

    ``up_since`` is when (on trio's clock) the link to it was made that still holds; None while
    there is none.
    """

    node: str
    terms: Terms

    @property
    def up_since(self) -> float | None: ...

    async def wait_up(self) -> None:
        """Wait until there is a link. If cancelled, nothing has changed. (Without one, what is
        asked is not sent: it raises :class:`BrokerDown` at once.)"""
        ...

    async def ping(self) -> float:
        """For how many seconds the broker's memory has lived, by when a node first asked: what it
        held before that has been lost. The node is one that lives, for a lease."""
        ...

    # -- of whoever comes --------------------------------------------------------------------------

    async def elect(self, ref: Ref, about: bytes) -> Lease | Running:
        """Own the request, under ``ref``'s new id; unless a generation runs for it, which is
        returned. Leases are not judged here. ``about`` is for who looks for the id.

        Raises :class:`NotRunning` for an id that has been ended, which is not given again.
        """
        ...

    async def reap(self, ref: Ref) -> bool:
        """End the generation as lost if its lease has run out: the fence is raised, the log ends,
        the request is free. Returns whether it is lost, by this or before.

        Raises :class:`NotRunning` where it has ended, or is not known.
        """
        ...

    async def look(self, ref: Ref) -> Known:
        """What there is of a generation. Raises :class:`NotRunning` where it is not known."""
        ...

    async def resolve(self, alias: str) -> Ref | None:
        """The generation that was published with this alias; None where there is none."""
        ...

    # -- of a node that reads ----------------------------------------------------------------------

    async def join(self, ref: Ref, *, revive: bool = False) -> Joined:
        """Be interested, for a lease. The first to be so wakes the owner; to ``revive`` it, also
        that of one that was retired, which then has a lease's time to publish it.

        Raises :class:`NotRunning`: to be elected anew; one that has ended is read from its log.
        """
        ...

    async def keep_interest(self, refs: Sequence[Ref]) -> Sequence[float | BrokerError]:
        """Be interested in each for a lease from now on. Returns of each what is left of the
        owner's, in seconds; or what is wrong: :class:`NotRunning`, or :class:`InterestLost` where
        it had run out."""
        ...

    async def leave(self, ref: Ref) -> None:
        """Be interested no more. The last to be so tells the owner."""
        ...

    async def read(self, logs: Mapping[Ref, Cursor], mail: str, *, wait: float) -> News:
        """What is new in the node's mailbox and in these logs, each after its cursor; waiting for
        something, up to ``wait`` seconds. One task at a time (:exc:`trio.BusyResourceError`).

        The places are the caller's: if cancelled, the next read from the same brings the same.
        """
        ...

    async def send(self, node: str, letter: Letter) -> None:
        """Put a letter into a node's mailbox. This alone, asked twice, comes twice."""
        ...

    # -- of an owner -------------------------------------------------------------------------------

    async def renew(self, leases: Sequence[Lease]) -> Sequence[int | BrokerError]:
        """Hold each for a lease from now on, with all its keys. Returns of each how many nodes are
        interested; or what is wrong: :class:`Fenced`, or :class:`NotRunning`, where it is unknown
        to be restored. One that was closing can be joined again."""
        ...

    async def open(self, lease: Lease, head: bytes) -> None:
        """Tell the head, once: to who is interested, and to who will be.

        Raises :class:`Fenced`, or :class:`NotRunning`.
        """
        ...

    async def publish(self, additions: Sequence[Addition]) -> Sequence[BrokerError | None]:
        """Add to logs, each by itself. What is in a log already is not added again. Returns what
        was wrong with each addition: what :meth:`open` raises, :class:`LogBehind`,
        :class:`EntryTooLarge`."""
        ...

    async def close_if_empty(self, lease: Lease) -> bool:
        """Let nobody join any more, if nobody is interested. Returns whether it is so: then the
        request is held until it is finished or retired, or :meth:`renew` opens it again. Raises as
        :meth:`open` does."""
        ...

    async def retire(self, lease: Lease) -> bool:
        """It has ended: free the request, and let who asks for it wake the owner. Returns whether
        it is so; not where somebody is interested, who is to be told the end by :meth:`finish`.
        Raises as :meth:`open` does."""
        ...

    async def finish(
        self, lease: Lease, outcome: Outcome, *, last: int, detail: bytes = b""
    ) -> None:
        """End the log, which may be shorter than the ``last`` seq that there was, and free the
        request. Raises as :meth:`open` does."""
        ...

    async def restore(
        self,
        lease: Lease,
        about: bytes,
        head: bytes | None,
        batch: Batch | None,
        *,
        is_wanted: bool = False,
    ) -> Restored:
        """Own again what the broker may have lost, with the beginning of its log; or for the first
        time what need not be elected. Where nothing was lost it is a renewal. If it ``is_wanted``,
        somebody counts as interested for a lease: who was has to come back first.

        Raises :class:`Fenced`, or :class:`NotRunning` where it is known to have ended.
        """
        ...

    # -- of all nodes together ---------------------------------------------------------------------

    async def spend(self, account: Account, pace: Pace) -> Spent:
        """Count one, if there is room for it. This too, asked twice, counts twice: who has heard
        nothing does not ask again."""
        ...

    async def give_back(self, account: Account, pace: Pace, spent: Spent) -> None:
        """Count one no more, that was let in and came to nothing. Asked twice, it may give back
        two."""
        ...

    async def hold(self, account: Account, number: int, most: float) -> int:
        """Have so many, for a lease, of which all nodes together may have ``most``; or as many as
        that leaves, but no fewer than this node had. Returns how many."""
        ...

    async def keep_holding(self, account: Account, number: int) -> int:
        """Have so many for a lease from now on, however many there are: this is how a node tells
        what is so. With 0 it has nothing. Returns how many the other nodes have."""
        ...

    # -- of who asks other nodes -------------------------------------------------------------------

    async def depart(self) -> None:
        """Be no more among the nodes that live, until the next :meth:`ping`."""
        ...

    async def ask(self, survey: Ref, question: bytes, *, of: str | None = None) -> Sequence[str]:
        """Put a question to all other nodes that live, or to the one that it is asked ``of``, by a
        letter. Returns who is asked. ``survey`` is a name that is new."""
        ...

    async def question(self, survey: Ref) -> bytes | None:
        """What is asked; None where nobody waits for an answer any more."""
        ...

    async def answer(self, survey: Ref, answer: bytes, *, to: str) -> None:
        """Answer, and tell the node that asked. An answer that comes too late goes nowhere."""
        ...

    async def answers(self, survey: Ref) -> Mapping[str, bytes]:
        """What has been answered so far, by node."""
        ...
