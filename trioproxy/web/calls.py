"""From what is asked for to a generation: one that runs and may answer it, or a new one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Hashable, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    nullcontext,
    suppress,
)
from dataclasses import replace
from functools import partial
from typing import Any

from trioproxy.config import Settings
from trioproxy.fanout import (
    ExpiredGeneration,
    Generation,
    Hub,
    Mode,
    Source,
    Subscriber,
    UnknownGeneration,
)
from trioproxy.gateway import Answers
from trioproxy.upstream import Head, Router
from trioproxy.web.admission import Admission
from trioproxy.web.asking import Asking, Origin
from trioproxy.web.caller import Caller
from trioproxy.web.failures import Mismatch
from trioproxy.web.messages import CacheStatus
from trioproxy.web.places import BROKER_LOST, ClusterDown, Overview, Placed, Places
from trioproxy.wire import OPENAI_RESPONSES


class Calls:
    """The calls that may be made to the upstream, and the generations that answer them.

    Every method is synchronous: from the look-up to the subscriber that it returns there is no
    ``await``. A subscriber is a context manager, to be entered at once on a stack that outlives it.
    ``settings`` are those that they are made by.
    """

    def __init__(
        self,
        settings: Settings,
        hub: Hub,
        router: Router,
        answers: Answers,
        admission: Admission,
        places: Places,
    ) -> None:
        self.settings = settings
        self._hub = hub
        self._router = router
        self._answers = answers
        self._admission = admission
        self._places = places

    def place(
        self, asking: Asking, body: bytes, *, is_read: bool = True
    ) -> AbstractAsyncContextManager[Placed]:
        """Find out where it is answered, and join or (if not ``is_read`` yet) start it in the
        block: see :meth:`Places.place`."""
        return self._places.place(asking, partial(self._check, asking, body), is_read=is_read)

    def seat(self, tenant: str) -> AbstractAsyncContextManager[None]:
        """Have room for one more who reads what runs already, and join it in the block: see
        :meth:`~trioproxy.web.places.LimitsOfAll.seat`."""
        limits = self._places.limits
        return _SEAT if limits is None else limits.seat(tenant)

    def join(
        self, caller: Caller, asking: Asking, body: bytes, placed: Placed
    ) -> AbstractContextManager[Subscriber]:
        """Join the running twin or start a generation. Raises what :meth:`Hub.join` raises, what
        :class:`Admission` does, :class:`~trioproxy.upstream.UnknownModel`, and :class:`Mismatch`
        and :class:`ExpiredGeneration` where a client's own key is in use for what it cannot
        have."""
        streamed = asking.origin.streamed
        key = self._admit(asking, body, placed)
        there = self._running_replica(placed)
        if there is not None:
            return self._hub.subscribe(
                there.id,
                mode=asking.mode,
                linger=asking.linger,
                on_lag=self.settings.on_lag if streamed else "wait",
            )
        origin, source = self._answer(caller, asking, body, placed)
        return self._hub.join(
            key,
            source,
            mode=asking.mode,
            linger=asking.linger,
            # A whole answer is gathered as it comes: nobody can be too slow for it.
            on_lag=self.settings.on_lag if streamed else "wait",
            when_full="trim" if streamed else "fail",
            tenant=asking.tenant,
            origin=origin,
            identity=placed.identity,
        )

    def start(self, caller: Caller, asking: Asking, body: bytes, placed: Placed) -> Generation:
        """Find the running twin or start a generation, for a reader who comes later. Raises as
        :meth:`join` does."""
        key = self._admit(asking, body, placed)
        there = self._running_replica(placed)
        if there is not None:
            there.outlive_subscribers(asking.linger)
            return there
        origin, source = self._answer(caller, asking, body, placed)
        return self._hub.start(
            key,
            source,
            mode=asking.mode,
            linger=asking.linger,
            tenant=asking.tenant,
            origin=origin,
            identity=placed.identity,
        )

    def take_up(
        self, generation: Generation, asking: Asking, after: int
    ) -> AbstractContextManager[Subscriber]:
        """Read on after event ``after``, who asks for the same once more; or all of it, where that
        is no stream. Raises :class:`Mismatch`, and what :meth:`Hub.subscribe` raises."""
        _check_same(generation, asking)
        streamed = asking.origin.streamed
        return self._hub.subscribe(
            generation.id,
            after=after if streamed else None,
            linger=asking.linger,
            on_lag=self.settings.on_lag if streamed else "wait",
        )

    def read(
        self, generation: Generation, *, after: int | None = None, mode: Mode = "replay"
    ) -> AbstractContextManager[Subscriber]:
        """Read a generation that is there. Raises :class:`Mismatch` for one that is no stream, and
        what :meth:`Hub.subscribe` raises."""
        if not origin_of(generation).streamed:
            raise Mismatch(f"{generation.id} is no stream of events: its answer comes whole")
        return self._hub.subscribe(
            generation.id, after=after, mode=mode, on_lag=self.settings.on_lag
        )

    def reach(
        self,
        caller: Caller,
        generation_id: str,
        *,
        after: int | None = None,
        up_to_now: bool = False,
    ) -> AbstractAsyncContextManager[Generation]:
        """The generation with this id, wherever it is: in the block :meth:`find` finds it, and who
        is to read it joins it. One that runs elsewhere has come as far as event ``after``, or
        ``up_to_now``, if it has been there in a few seconds.

        Raises what :meth:`find` does, and :class:`~trioproxy.web.places.ClusterDown`. If cancelled,
        nothing is held.
        """
        elsewhere = self._places.elsewhere
        try:
            here = self.find(caller, generation_id)
        except UnknownGeneration:
            if elsewhere is None:
                raise
            return elsewhere.reach(caller, generation_id, after, up_to_now)
        if elsewhere is None or not here.is_replica:
            return nullcontext(here)
        if here.outcome is None and up_to_now:
            return _further(here, elsewhere.reach(caller, generation_id, after, up_to_now))
        if here.outcome is not None and here.outcome.reason == BROKER_LOST:
            return elsewhere.reach(caller, generation_id, after, up_to_now)
        return nullcontext(here)

    def reach_response(
        self, caller: Caller, response_id: str
    ) -> AbstractAsyncContextManager[Generation | None]:
        """The generation that is the response which the engine calls so, up to now, wherever it is;
        None if there is none. Otherwise as :meth:`reach`."""
        here = [one for one in self.all_of(caller) if response_id_of(one) == response_id]
        if here:
            return self.reach(caller, here[-1].id, up_to_now=True)
        elsewhere = self._places.elsewhere
        if elsewhere is None:
            return nullcontext(None)
        return elsewhere.reach_response(caller, response_id)

    async def survey(self, caller: Caller) -> Overview | None:
        """What all nodes have that is the caller's to see; None where there is no other node."""
        elsewhere = self._places.elsewhere
        return None if elsewhere is None else await elsewhere.survey(caller)

    async def describe(
        self, caller: Caller, generation_id: str, *, wide: bool
    ) -> Mapping[str, Any] | None:
        """A generation as the nodes tell of it that have it. They are not asked of one that this
        node runs, unless ``wide``. None where nobody else can tell. Raises
        :class:`ExpiredGeneration`."""
        elsewhere = self._places.elsewhere
        if elsewhere is None or (not wide and self._is_ours(caller, generation_id)):
            return None
        return await elsewhere.describe(caller, generation_id)

    async def tell_timing(self, caller: Caller, generation_id: str) -> bytes | None:
        """How the tokens of a generation came to the node that runs it, as JSON. None and raises as
        :meth:`describe`."""
        elsewhere = self._places.elsewhere
        if elsewhere is None or self._is_ours(caller, generation_id):
            return None
        return await elsewhere.tell_timing(caller, generation_id)

    @property
    def node(self) -> str | None:
        """What this node is called by others; None where there are none."""
        elsewhere = self._places.elsewhere
        return None if elsewhere is None else elsewhere.name

    def stop(self, generation: Generation) -> None:
        """End it for everyone, wherever it runs. One that has ended is left as it is."""
        self._places.stop(generation)

    def find(self, caller: Caller, generation_id: str) -> Generation:
        """The generation with this id, if it is the caller's to see; to everyone else there is
        none.

        Raises :class:`UnknownGeneration` and :class:`ExpiredGeneration`.
        """
        unknown = UnknownGeneration(f"there is no generation {generation_id}")
        try:
            generation = self._hub.get(generation_id)
        except ExpiredGeneration as error:
            raise error if caller.may_see(error.tenant) else unknown from None
        if not caller.may_see(generation.tenant):
            raise unknown
        return generation

    def _is_ours(self, caller: Caller, generation_id: str) -> bool:
        try:
            return not self.find(caller, generation_id).is_replica
        except UnknownGeneration:
            return False

    def all_of(self, caller: Caller) -> list[Generation]:
        """All of the caller's to see: those that run, then those that are retained, each oldest
        first."""
        generations = [*self._hub.running, *self._hub.retained]
        return [generation for generation in generations if caller.may_see(generation.tenant)]

    def _answer(
        self, caller: Caller, asking: Asking, body: bytes, placed: Placed
    ) -> tuple[Origin, Source]:
        """What a generation that is to answer is started for, and what it reads: one that another
        node runs, an answer that is kept, or the upstream's, which may be kept."""
        origin = asking.origin
        if placed.follow is not None:
            return replace(origin, is_replica=True), placed.follow(origin)
        same = (asking.tenant, origin.fingerprint)
        kept = self._answers.find(same) if asking.may_replay else None
        if kept is not None:
            if isinstance(kept.head, Head):  # what it told of its call is told no more
                kept = replace(kept, head=kept.head.without_call())
            pace = self.settings.cache_replay_rate
            replay = self._answers.replay(kept, origin.tally, pace)
            return replace(origin, is_replay=True), replay
        source = self._source(caller, asking, body)
        return origin, self._answers.keeping(same, source) if asking.may_keep else source

    def _source(self, caller: Caller, asking: Asking, body: bytes) -> Source:
        """The upstream call that is asked for. Not made before the core enters it."""
        origin = asking.origin
        target = origin.path.encode() + (b"?" + caller.query if caller.query else b"")
        call = caller.request("POST", target, body, origin.trace_context)
        if not origin.streamed:
            return self._router.whole(asking.model, call)
        return self._router.stream(asking.model, call, origin.dialect, origin.tally)

    def _running_replica(self, placed: Placed) -> Generation | None:
        """The replica that is here already, as it was asked for by its id."""
        if placed.identity is None or not self._hub.is_running(placed.identity.generation_id):
            return None
        return self._hub.get(placed.identity.generation_id)

    def _admit(self, asking: Asking, body: bytes, placed: Placed) -> Hashable | None:
        """The key to join or start under, for one that may, and is counted."""
        key = self._check(asking, body)
        self._admission.count(asking.tenant, placed.ticket)
        return key

    def _check(self, asking: Asking, body: bytes) -> Hashable | None:
        """The key to join or start under, for one that may. Whoever joins what runs is no load."""
        self._admission.check_prompt(body)
        key = self._key_to_join(asking)
        if self._hub.find(key) is None:
            self._admission.check_load()
        return key

    def _key_to_join(self, asking: Asking) -> Hashable | None:
        """The key to join or start under; None for a call that nobody else can find.

        A request that did not ask to share leaves a running twin alone.
        """
        running = self._hub.find(asking.key)
        if running is None:
            return asking.key
        if not asking.shares:
            return None
        _check_same(running, asking)
        if asking.mode == "replay" and running.transcript.first > 1:
            # It cannot be had from its start any more. A call of its own can; but not under a name
            # that is taken.
            if asking.is_named:
                raise ExpiredGeneration(
                    f"the beginning of {running.id} is no longer held", running.tenant
                )
            return None
        return asking.key


_SEAT: nullcontext[None] = nullcontext()


@asynccontextmanager
async def _further(
    here: Generation, reaching: AbstractAsyncContextManager[Generation]
) -> AsyncGenerator[Generation]:
    """What is reached, or what is ``here`` as far as it is."""
    async with AsyncExitStack() as stack:
        with suppress(UnknownGeneration, ClusterDown):
            here = await stack.enter_async_context(reaching)
        yield here


def origin_of(generation: Generation) -> Origin:
    """What a generation of ours was started for."""
    assert isinstance(generation.origin, Origin)
    return generation.origin


def response_id_of(generation: Generation) -> str | None:
    """What the engine calls it, if it is a response and that has been told."""
    origin = origin_of(generation)
    return origin.tally.answer_id if origin.dialect is OPENAI_RESPONSES else None


def cache_status(generation: Generation, asking: Asking) -> CacheStatus:
    """How a request has got its generation: one that ran (``join``), one that reads an answer that
    was kept (``hit``), or one that made a call (``miss``)."""
    origin = origin_of(generation)
    if origin.tally is not asking.origin.tally or origin.is_replica:
        return "join"
    return "hit" if origin.is_replay else "miss"


def _check_same(generation: Generation, asking: Asking) -> None:
    if origin_of(generation).fingerprint != asking.origin.fingerprint:
        raise Mismatch(f"{generation.id} was started by another path, query or body")
