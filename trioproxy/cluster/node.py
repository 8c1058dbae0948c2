"""One of the processes that share generations: what it owns, what it follows, and its heartbeat."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial

import trio

from trioproxy.cluster.broker import OWNER_LOST, Broker, Known, Lease, Letter
from trioproxy.cluster.codec import Codec
from trioproxy.cluster.entries import Ending
from trioproxy.cluster.errors import BrokerError, InterestLost, NotRunning
from trioproxy.cluster.following import Followed, Follower
from trioproxy.cluster.keys import Ref
from trioproxy.cluster.mirror import Mirror
from trioproxy.cluster.owning import Owner
from trioproxy.fanout import Generation, Hub, Limits, ShareOf, WatchFactory, open_hub, watch_nothing
from trioproxy.wire import Message

logger = logging.getLogger(__name__)

SOON = 0.01
"""Seconds until what is about to change is looked at again."""

BEATS = 4
"""Heartbeats in a lease."""

FAREWELL = 1.0
"""Seconds that a node has at its end to tell the broker what it knows."""


def name_of_node() -> str:
    """A name that no other process has or had."""
    return secrets.token_hex(8)


@asynccontextmanager
async def open_node(
    broker: Broker,
    codec: Codec,
    limits: Limits | None = None,
    *,
    watch: WatchFactory = watch_nothing,
    share_of: ShareOf | None = None,
    patience: float = 30.0,
    always: bool = False,
) -> AsyncGenerator[Node]:
    """Open a hub whose generations other nodes may read, for the length of the block; the ``watch``
    tells the node of them (:meth:`Node.started` and so on).

    ``patience`` is for how many seconds the broker may be away before readers of what others own
    are told so; ``always`` has everything published, not only what is asked for: then it can be
    read when its owner is gone.

    On exit the hub is closed first, and others are told of that for :data:`FAREWELL` seconds.
    """
    async with trio.open_nursery() as errands, trio.open_nursery() as clockwork:
        with ExitStack() as stack:
            async with open_hub(limits, watch=watch, share_of=share_of) as hub:
                owner = Owner(broker, hub, codec, errands, always=always)
                stack.callback(owner.close)
                follower = Follower(broker, owner.obey, patience)
                node = Node(broker, hub, codec, owner, follower, errands)
                clockwork.start_soon(follower.run, name="reader of the cluster")
                clockwork.start_soon(owner.publisher.run, name="publisher to the cluster")
                clockwork.start_soon(node.beat, name="heartbeat of the node")
                yield node
            errands.cancel_scope.deadline = trio.current_time() + FAREWELL
            await owner.wait_told()
            clockwork.cancel_scope.cancel(reason="the node is closed")


class Node:
    """What is asked of the cluster, at this node. ``hub`` runs what it owns and replicas of what
    others own."""

    def __init__(
        self,
        broker: Broker,
        hub: Hub,
        codec: Codec,
        owner: Owner,
        follower: Follower,
        errands: trio.Nursery,
    ) -> None:
        self.broker = broker
        self.hub = hub
        self._codec = codec
        self._owner = owner
        self._follower = follower
        self._errands = errands
        self._placed: dict[str, tuple[Lease, bytes]] = {}
        self._locks: dict[str, _Turn] = {}
        self._settled_at: float | None = None  # of the link with which it was seen

    # -- placing -----------------------------------------------------------------------------------

    @asynccontextmanager
    async def turn(self, request: str) -> AsyncGenerator[None]:
        """Be the only one at this node who places this request, for the length of the block."""
        turn = self._locks.setdefault(request, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._locks[request]

    @asynccontextmanager
    async def place(self, request: str, about: bytes) -> AsyncGenerator[Lease | Followed]:
        """Find out who runs the request: this node, under a lease; or another, whose generation is
        followed. In the block it is to be started, as a generation with that id: what is not is
        given back. To be called in one's :meth:`turn`.

        Raises :class:`BrokerError`. If cancelled, nothing is held.
        """
        ref = Ref.new(request)
        try:
            found = await self._elect(ref, about)
        except BaseException:
            self._owner.give_back(Lease(ref, 1))  # it may have been elected unheard
            raise
        if isinstance(found, Lease):
            with self._placing(found, about):
                yield found
        else:
            with self._starting(found):
                yield found

    @contextmanager
    def own(self, request: str, about: bytes) -> Generator[Lease]:
        """Own a generation of the request beside any other: what nobody else is to join need not be
        elected."""
        lease = Lease(Ref.new(request), 1)
        with self._placing(lease, about):
            yield lease
        restore = partial(self.broker.restore, lease, about, None, None)
        self._run_errand(restore, "registering")  # or the next renewal finds it unknown

    @asynccontextmanager
    async def reach(self, ref: Ref) -> AsyncGenerator[Followed]:
        """Follow a generation of another node, running or ended. In the block its replica is to be
        started. To be called in one's :meth:`turn`.

        Raises :class:`BrokerError`; :class:`NotRunning` where it is not known.
        """
        with self._starting(await self._follow(ref)) as followed:
            yield followed

    async def look(self, ref: Ref) -> Known:
        """What there is of a generation. Raises :class:`BrokerError`, :class:`NotRunning`."""
        return await self.broker.look(ref)

    def mirror(self, followed: Followed, count: Callable[[Message], None]) -> Mirror:
        """The source of a replica, not yet entered."""
        return Mirror(followed, self._codec, count, lambda: self._unfollow(followed))

    def stop(self, generation: Generation) -> None:
        """Have a generation ended for everyone, wherever it runs."""
        generation.cancel("stopped")
        ref = Ref.parse(generation.id)
        followed = self._follower.followed.get(ref) if ref is not None else None
        if followed is not None and generation.is_replica:
            letter = Letter("cancel", followed.ref, self.broker.node)
            self._run_errand(lambda: self.broker.send(followed.node, letter), "stopping")

    # -- what is told of the hub's generations -----------------------------------------------------

    def started(self, generation: Generation) -> None:
        """It runs now."""
        placed = self._placed.pop(generation.id, None)
        if placed is not None:
            self._owner.begin(*placed, generation)

    def left(self, generation: Generation) -> None:
        """A subscriber has left it."""
        self._owner.left(generation)

    def ended(self, generation: Generation) -> None:
        """It has its outcome."""
        self._owner.ended(generation)

    # -- its tasks ---------------------------------------------------------------------------------

    async def beat(self) -> None:
        """Hold what is owned and followed. The body of a task."""
        while True:
            await self.broker.wait_up()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ask, self.broker.ping)
                for owned in list(self._owner.owned.values()):
                    nursery.start_soon(self._ask, partial(self._owner.renew, owned))
                for followed in list(self._follower.followed.values()):
                    nursery.start_soon(self._ask, partial(self._keep, followed))
            await trio.sleep(self.broker.terms.lease / BEATS)

    async def _ask(self, ask: Callable[[], Awaitable[object]]) -> None:
        try:
            await ask()
        except BrokerError as error:
            logger.debug("a heartbeat failed: %s", error)

    async def _keep(self, followed: Followed) -> None:
        """Stay interested, and see whether the owner still lives."""
        if followed.has_ended or math.isinf(followed.lease_ends):
            return
        now = trio.current_time
        try:
            followed.lease_ends = now() + await self.broker.keep_interest(followed.ref)
        except InterestLost:
            followed.lease_ends = now() + (await self.broker.join(followed.ref)).lease_left
        except NotRunning as error:  # what has ended tells so in its log
            if error.state == "unknown" and now() > followed.lease_ends and self._may_judge:
                followed.add([Ending(followed.cursor.seq, OWNER_LOST)])
            return
        if now() > followed.lease_ends and self._may_judge:
            await self.broker.reap(followed.ref)

    @property
    def _may_judge(self) -> bool:
        """Whether this node's own link has been well for so long that a lease which has run out
        must be its owner's fault."""
        since = self.broker.up_since
        return since is not None and trio.current_time() - since > 1.5 * self.broker.terms.lease

    # -- steps -------------------------------------------------------------------------------------

    async def _elect(self, ref: Ref, about: bytes) -> Lease | Followed:
        await self._settle()
        while True:
            found = await self.broker.elect(ref, about)
            if isinstance(found, Lease):
                return found
            if found.lease_left < 0 and self._may_judge:
                with suppress(NotRunning):
                    await self.broker.reap(found.ref)
            elif found.is_closing or found.node == self.broker.node:
                await trio.sleep(SOON)  # it ends here or there, and the request is free
            else:
                with suppress(NotRunning):
                    return await self._follow(found.ref)

    async def _settle(self) -> None:
        """Where the broker's memory is new, let the owners restore what they run, before somebody
        runs it a second time."""
        since = self.broker.up_since
        if since is None or since != self._settled_at:
            age = await self.broker.ping()
            await trio.sleep(max(0.0, self.broker.terms.lease / 3 - age))
            self._settled_at = since

    async def _follow(self, ref: Ref) -> Followed:
        """Be interested, and read the log."""
        known = self._follower.followed.get(ref)
        if known is not None:
            return known
        try:
            joined = await self.broker.join(ref)
        except NotRunning as error:
            if error.state not in ("ended", "lost"):
                raise
            return self._follower.follow(ref, None, "")
        except BaseException:
            self._leave(ref)
            raise
        return self._follower.follow(ref, joined, joined.node)

    @contextmanager
    def _placing(self, lease: Lease, about: bytes) -> Generator[None]:
        public_id = lease.ref.public_id
        self._placed[public_id] = lease, about
        try:
            yield
        finally:
            if self._placed.pop(public_id, None) is not None:
                self._owner.give_back(lease)

    @contextmanager
    def _starting(self, followed: Followed) -> Generator[Followed]:
        try:
            yield followed
        finally:
            if not self.hub.is_running(followed.ref.public_id):
                self._unfollow(followed)

    def _unfollow(self, followed: Followed) -> None:
        ref = followed.ref
        if self._follower.followed.get(ref) is followed:
            self._follower.forget(ref)
            if not followed.has_ended:
                self._leave(ref)

    def _leave(self, ref: Ref) -> None:
        async def leave() -> None:
            async with self.turn(ref.request):
                if ref not in self._follower.followed:  # by who came meanwhile
                    await self.broker.leave(ref)

        self._run_errand(leave, "leaving")

    def _run_errand(self, ask: Callable[[], Awaitable[object]], name: str) -> None:
        """Have the broker told something that would come true without it, only later."""
        self._errands.start_soon(self._ask, ask, name=f"{name} in the cluster")


class _Turn:
    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.users = 0
