"""One of the processes that share generations: what is asked of the cluster at it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial

import trio

from trioproxy.cluster.broker import Broker, Joined, Known, Lease, Letter, Running
from trioproxy.cluster.codec import Codec
from trioproxy.cluster.errors import NotRunning
from trioproxy.cluster.following import Followed, Follower
from trioproxy.cluster.heartbeat import AtLane, tried
from trioproxy.cluster.holding import Holder
from trioproxy.cluster.keys import Account, Ref, lane_of
from trioproxy.cluster.mirror import Mirror, OnMessage
from trioproxy.cluster.owning import Owner
from trioproxy.cluster.spending import Pace, Spent
from trioproxy.cluster.surveys import Heard, Surveys, answer_nothing
from trioproxy.cluster.watching import WATCHED_BY_NOBODY, NodeWatch
from trioproxy.fanout import Generation, Hub, Limits, ShareOf, WatchFactory, open_hub, watch_nothing

SOON = 0.01
"""Seconds until what is about to change is looked at again."""

FAREWELL = 1.0
"""Seconds that a node has at its end to tell the broker what it knows."""


@asynccontextmanager
async def open_node(
    brokers: Sequence[Broker],
    codec: Codec,
    limits: Limits | None = None,
    *,
    watch: WatchFactory = watch_nothing,
    share_of: ShareOf | None = None,
    patience: float = 30.0,
    always: bool = False,
    node_watch: NodeWatch = WATCHED_BY_NOBODY,
    answer: Callable[[Hub, bytes], bytes] = answer_nothing,
) -> AsyncGenerator[Node]:
    """Open a hub whose generations other nodes may read, for the length of the block; the ``watch``
    tells the node of them (:meth:`Node.started` and so on). ``brokers`` are those of all lanes;
    each is up or down for itself.

    ``patience`` is for how many seconds the broker may be away before readers of what others own
    are told so; ``always`` has everything published, not only what is asked for: then it can be
    read when its owner is gone. ``node_watch`` is told what the broker does. ``answer`` answers
    what other nodes ask of the hub, without waiting; it raises :exc:`ValueError` for what it does
    not understand.

    On exit the hub is closed first, and others are told of that for :data:`FAREWELL` seconds.
    """
    async with trio.open_nursery() as errands, trio.open_nursery() as clockwork:
        with ExitStack() as stack:
            async with open_hub(limits, watch=watch, share_of=share_of) as hub:
                lanes: list[AtLane] = []
                for number, broker in enumerate(brokers):
                    owner = Owner(broker, hub, codec, errands, node_watch, always=always)
                    stack.callback(owner.close)
                    surveys = Surveys(broker, partial(answer, hub), errands)
                    follower = Follower(broker, partial(_hand_on, owner, surveys), patience)
                    is_of_lane = partial(_is_of_lane, number, len(brokers))
                    holder = Holder(broker, hub.shares, errands, is_of_lane)
                    lanes.append(AtLane(broker, owner, follower, holder, node_watch, surveys))
                for lane in lanes:
                    clockwork.start_soon(lane.follower.run, name="reader of the cluster")
                    clockwork.start_soon(lane.owner.publisher.run, name="publisher to the cluster")
                    clockwork.start_soon(lane.beat, name="heartbeat of the node")
                yield Node(hub, codec, lanes, errands, node_watch)
            errands.cancel_scope.deadline = trio.current_time() + FAREWELL
            for lane in lanes:
                await lane.owner.wait_told()
            clockwork.cancel_scope.cancel(reason="the node is closed")
            for lane in lanes:
                errands.start_soon(tried, lane.broker.depart)


class Node:
    """What is asked of the cluster, at this node. ``hub`` runs what it owns and replicas of what
    others own."""

    def __init__(
        self,
        hub: Hub,
        codec: Codec,
        lanes: Sequence[AtLane],
        errands: trio.Nursery,
        watch: NodeWatch,
    ) -> None:
        self.hub = hub
        self._codec = codec
        self._lanes = lanes
        self._errands = errands
        self._watch = watch
        self._placed: dict[str, tuple[Lease, bytes]] = {}
        self._locks: dict[str, _Turn] = {}

    @property
    def name(self) -> str:
        """What other nodes know it by."""
        return self._lanes[0].broker.node

    @property
    def brokers(self) -> list[Broker]:
        """Those of all lanes."""
        return [lane.broker for lane in self._lanes]

    def broker_of(self, request: str) -> Broker:
        """That of the lane in which a request is, or whatever else has a name."""
        return self._lane(request).broker

    def holder_of(self, tenant: str) -> Holder:
        """Who tells others how much of it is this tenant's."""
        return self._lane(tenant).holder

    def give_back(self, account: Account, pace: Pace, spent: Spent) -> None:
        """Have a request counted no more that was not let in."""
        broker = self.broker_of(account.tenant)
        self._run_errand(partial(broker.give_back, account, pace, spent), "giving back")

    @property
    def leases(self) -> int:
        """How many generations it owns."""
        return sum(len(lane.owner.owned) for lane in self._lanes)

    @property
    def replicas(self) -> int:
        """How many of others it follows."""
        return sum(len(lane.follower.followed) for lane in self._lanes)

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
        unbegun = self._lane(request).owner.unbegun
        unbegun.expect(ref)
        try:
            found = await self._elect(ref, about)
        except BaseException:
            unbegun.give_back(Lease(ref, 1), None)  # it may have been elected unheard
            raise
        self._watch.elected(is_owner=isinstance(found, Lease))
        if isinstance(found, Lease):
            with self._placing(found, about):
                yield found
        else:
            unbegun.take(ref)
            with self._starting(found):
                yield found

    @contextmanager
    def own(self, request: str, about: bytes) -> Generator[Lease]:
        """Own a generation of the request beside any other: what nobody else is to join need not be
        elected."""
        lease = Lease(Ref.new(request), 1)
        with self._placing(lease, about):
            yield lease
        restore = partial(self.broker_of(request).restore, lease, about, None, None)
        self._run_errand(restore, "registering")  # or the next renewal finds it unknown

    @asynccontextmanager
    async def reach(self, ref: Ref) -> AsyncGenerator[Followed]:
        """Follow a generation of another node, running or ended. In the block its replica is to be
        started. To be called in one's :meth:`turn`.

        Raises :class:`BrokerError`; :class:`NotRunning` where it is not known.
        """
        with self._starting(await self._follow(ref, revive=True)) as followed:
            yield followed

    async def look(self, ref: Ref) -> Known:
        """What there is of a generation. Raises :class:`BrokerError`, :class:`NotRunning`."""
        return await self.broker_of(ref.request).look(ref)

    async def resolve(self, alias: str) -> Ref | None:
        """The generation that has been published with this alias, wherever; None where there is
        none. Raises :class:`BrokerError`."""
        for lane in self._lanes:
            ref = await lane.broker.resolve(alias)
            if ref is not None:
                return ref
        return None

    async def ask(self, question: bytes, *, of: str | None = None) -> Heard:
        """Ask all other nodes, or one, in a lane that is up. See
        :meth:`~trioproxy.cluster.surveys.Surveys.ask`."""
        up = (lane for lane in self._lanes if lane.broker.up_since is not None)
        return await next(up, self._lanes[0]).surveys.ask(question, of=of)

    def mirror(
        self, followed: Followed, on_message: OnMessage, *, needs_head: bool = False
    ) -> Mirror:
        """The source of a replica, not yet entered."""
        on_exit = partial(self._unfollow, followed)
        return Mirror(followed, self._codec, on_message, on_exit, needs_head=needs_head)

    def stop(self, generation: Generation) -> None:
        """Have a generation ended for everyone, wherever it runs."""
        generation.cancel("stopped")
        ref = Ref.parse(generation.id)
        if ref is None or not generation.is_replica:
            return
        lane = self._lane(ref.request)
        followed = lane.follower.followed.get(ref)
        if followed is not None:
            letter = Letter("cancel", followed.ref, lane.broker.node)
            send = partial(lane.broker.send, followed.node, letter)
            lane.owner.errands.run(_insist, lane, send, name=f"stopping of {generation.id}")

    # -- what is told of the hub's generations -----------------------------------------------------

    def started(self, generation: Generation) -> None:
        """It runs now."""
        placed = self._placed.pop(generation.id, None)
        if placed is not None:
            lease, about = placed
            self._lane(lease.ref.request).owner.begin(lease, about, generation)

    def left(self, generation: Generation) -> None:
        """A subscriber has left it."""
        owner = self._owner_of(generation)
        if owner is not None:
            owner.left(generation)
        self.holder_of(generation.tenant).changed(Account(generation.tenant, "subscribers"))

    def outlives(self, generation: Generation) -> None:
        """It may outlive its last subscriber for longer."""
        owner = self._owner_of(generation)
        if owner is not None:
            owner.left(generation)

    def ended(self, generation: Generation) -> None:
        """It has its outcome."""
        owner = self._owner_of(generation)
        if owner is not None:
            owner.ended(generation)
        self.holder_of(generation.tenant).changed(Account(generation.tenant, "generations"))

    # -- steps -------------------------------------------------------------------------------------

    async def _elect(self, ref: Ref, about: bytes) -> Lease | Followed:
        lane = self._lane(ref.request)
        await lane.settle()
        while True:
            found = await lane.broker.elect(ref, about)
            if isinstance(found, Lease):
                return found
            if found.lease_left < 0 and lane.may_judge:
                with suppress(NotRunning):
                    await lane.reap(found.ref)
            elif self._is_about_to_end(found):
                await trio.sleep(SOON)  # and the request is free
            else:
                with suppress(NotRunning):
                    return await self._follow(found.ref)  # or it has ended, and one is elected

    def _is_about_to_end(self, found: Running) -> bool:
        """Whether it ends there, or has ended here."""
        lane = self._lane(found.ref.request)
        is_read = found.ref in lane.follower.followed
        has_ended = is_read and not self.hub.is_running(found.ref.public_id)
        return found.is_closing or found.node == lane.broker.node or has_ended

    async def _follow(self, ref: Ref, *, revive: bool = False) -> Followed:
        """Be interested, and read the log; to ``revive`` it, also of what its owner has put by."""
        lane = self._lane(ref.request)
        known = lane.follower.followed.get(ref)
        if known is not None:
            if self.hub.is_running(ref.public_id):
                return known
            self._unfollow(known)  # its replica is on its way out, and has taken of it
        try:
            joined = await self._join(lane, ref, revive=revive)
        except NotRunning as error:
            if error.state != "ended" and not (error.state == "lost" and revive):
                raise  # what was lost before somebody came to it is begun anew
            return lane.follower.follow(ref, None, "", ran=False)
        except BaseException:
            self._leave(ref)
            raise
        return lane.follower.follow(ref, joined, joined.node, ran=not revive)

    async def _join(self, lane: AtLane, ref: Ref, *, revive: bool) -> Joined:
        while True:
            try:
                return await lane.broker.join(ref, revive=revive)
            except NotRunning as error:
                if not revive or error.state != "closing":
                    raise
            if lane.may_judge:
                with suppress(NotRunning):
                    await lane.reap(ref)  # if its owner is gone that closed it
            await trio.sleep(SOON)  # and it is put by, or open again

    @contextmanager
    def _placing(self, lease: Lease, about: bytes) -> Generator[None]:
        public_id = lease.ref.public_id
        self._placed[public_id] = lease, about
        why: Exception | None = None
        try:
            yield
        except Exception as error:
            why = error
            raise
        finally:
            if self._placed.pop(public_id, None) is not None:
                self._lane(lease.ref.request).owner.unbegun.give_back(lease, why)

    @contextmanager
    def _starting(self, followed: Followed) -> Generator[Followed]:
        try:
            yield followed
        finally:
            if not self.hub.is_running(followed.ref.public_id):
                self._unfollow(followed)

    def _unfollow(self, followed: Followed) -> None:
        ref = followed.ref
        follower = self._lane(ref.request).follower
        if follower.followed.get(ref) is followed:
            follower.forget(ref)
            if not followed.has_ended:
                self._leave(ref)

    def _leave(self, ref: Ref) -> None:
        lane = self._lane(ref.request)

        async def leave() -> None:
            async with self.turn(ref.request):
                if ref not in lane.follower.followed:  # by who came meanwhile
                    await lane.broker.leave(ref)

        self._run_errand(leave, "leaving")

    def _owner_of(self, generation: Generation) -> Owner | None:
        """Who would own it here; None where it is not one that a cluster knows."""
        ref = Ref.parse(generation.id)
        return None if ref is None else self._lane(ref.request).owner

    def _lane(self, request: str) -> AtLane:
        return self._lanes[lane_of(request, len(self._lanes))]

    def _run_errand(self, ask: Callable[[], Awaitable[object]], name: str) -> None:
        """Have the broker told something that would come true without it, only later."""
        self._errands.start_soon(tried, ask, name=f"{name} in the cluster")


async def _insist(lane: AtLane, ask: Callable[[], Awaitable[object]]) -> None:
    """Have done what nothing else brings about; for as long as it may be of any use."""
    with trio.move_on_after(lane.broker.terms.ttl):
        await lane.owner.errands.try_to(ask)


def _is_of_lane(number: int, lanes: int, name: str) -> bool:
    return lane_of(name, lanes) == number


def _hand_on(owner: Owner, surveys: Surveys, letter: Letter) -> None:
    """Have a letter of another node obeyed."""
    if letter.word in ("ask", "answered"):
        surveys.hear(letter)
    else:
        owner.obey(letter)


class _Turn:
    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.users = 0
