"""One WebSocket: the generations that it reads, what its client asks for, and how it is closed.

A session is a few tasks in one nursery. One takes what the client sends, always, and never waits
for anything else: whoever does not take it would not see the client leave. One does what was asked
for, in order; it waits only where another node has to be asked first. One for each
subscription reads its generation. One writes, so that no message is ever cut by the leaving of its
reader: a subscription hands its batch over and can be cancelled until it is taken. One brings the
answers to it, in the order of what they answer; a subscription begins when its own answer has been
brought. One waits for the proxy to drain. Whatever ends the session cancels them all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

import trio
from quart.wrappers import Websocket

from trioproxy.fanout import Event, FanoutError, Mode, Subscriber, UnknownGeneration
from trioproxy.gateway import Rate, RateLimited, TokenBucket, Unauthorized
from trioproxy.upstream import UnknownModel
from trioproxy.web import messages
from trioproxy.web.admission import Overloaded, PromptTooLarge
from trioproxy.web.asking import asked_dialect, body_to_stream, check_linger, read_asking
from trioproxy.web.caller import Caller
from trioproxy.web.calls import cache_status
from trioproxy.web.failures import Mismatch, failure_of
from trioproxy.web.farewells import (
    CloseCode,
    Closing,
    Farewell,
    code_of_end,
    code_of_refusal,
    last_words,
)
from trioproxy.web.holdings import Holdings
from trioproxy.web.lane import in_a_frame, lane_of
from trioproxy.web.places import ClusterDown
from trioproxy.web.refusals import Refusals
from trioproxy.wire import BadRequest

REFUSALS = (
    *(BadRequest, Unauthorized, UnknownModel, Mismatch, FanoutError),
    *(RateLimited, Overloaded, PromptTooLarge, ClusterDown),
)
"""What was asked for cannot be had; the session goes on."""

MESSAGES_PER_SECOND = 50.0
MESSAGES_AT_ONCE = 500
MESSAGES = Rate("token-bucket", MESSAGES_PER_SECOND * 60, MESSAGES_AT_ONCE)
"""A client that sends more is closed: 500 at once, and 50 more each second."""

ANSWERS_AT_ONCE = 500
"""So many answers may wait for a client that asks and does not read."""

CLOSE_SECONDS = 1.0
"""How long a client may take to read why it is closed."""


@dataclass(eq=False)
class Subscription:
    """A generation that the session reads. ``stack`` holds the subscriber; leaving it is leaving
    the generation."""

    subscriber: Subscriber
    stack: ExitStack
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    answered: trio.Event = field(default_factory=trio.Event)
    """Set when the answer to who asked for it is on its way: its events come behind that."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A message of the client's answered; and the subscription that begins behind it, if one
    does."""

    message: bytes
    begins: Subscription | None = None


def render_frame(generation_id: str, event: Event) -> bytes:
    """An event as a frame: rendered once, and whole, for all who read over a WebSocket."""
    return in_a_frame(messages.render_event(generation_id, event))


class Session:
    """What one client reads and asks for over one WebSocket, which has been accepted. It outlives
    settings: what is asked for is had by those that hold then."""

    def __init__(
        self, websocket: Websocket, caller: Caller, holdings: Holdings, refusals: Refusals
    ) -> None:
        lane = lane_of(websocket.scope)
        assert lane is not None, "the server lends one to each WebSocket"
        self._lane = lane
        self._websocket = websocket
        self._caller = caller
        self._hub = holdings.hub
        self._tenants = holdings.tenants
        self._present_calls = holdings.present_calls
        self._refusals = refusals
        self._subscriptions: dict[str, Subscription] = {}
        self._changed = trio.lowlevel.ParkingLot()
        self._only: Subscription | None = None
        self._farewell = Farewell(CloseCode.DONE)
        self._messages = TokenBucket()
        self._batches, self._unwritten = trio.open_memory_channel[bytes | Farewell](0)
        self._replies, self._unsent = trio.open_memory_channel[Reply](ANSWERS_AT_ONCE)
        self._asked, self._undone = trio.open_memory_channel[str | bytes](MESSAGES_AT_ONCE)
        self._nursery: trio.Nursery

    async def run(self) -> None:
        """Do what the client asks until either side closes. On return it reads nothing more.

        If cancelled, which is how the client's departure is told, every subscription has been left.
        """
        await self._run(trio.lowlevel.checkpoint)

    async def run_for(self, generation_id: str, *, after: int | None, mode: Mode) -> None:
        """The same, for a WebSocket that is there to read one generation: it is read from the
        beginning, and its end is the session's."""

        async def open_only() -> None:
            try:
                self._only = await self._read_on(generation_id, after, mode)
                self._only.answered.set()  # nobody has asked
            except REFUSALS as error:
                self._refusals.count(error)
                self._end(Farewell(code_of_refusal(error), failure_of(error).code or ""))

        await self._run(open_only)

    async def _run(self, begin: Callable[[], Awaitable[None]]) -> None:
        with ExitStack() as channels:
            for end in (self._batches, self._unwritten, self._replies, self._unsent):
                channels.enter_context(end)
            channels.enter_context(self._asked)
            channels.enter_context(self._undone)
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._take_messages)
                self._nursery.start_soon(self._obey_messages)
                self._nursery.start_soon(self._write)
                self._nursery.start_soon(self._bring_replies)
                self._nursery.start_soon(self._see_draining)
                await begin()
        with trio.move_on_after(CLOSE_SECONDS):
            await self._websocket.close(self._farewell.code, self._farewell.short_reason)

    def _end(self, farewell: Farewell) -> None:
        self._farewell = farewell
        self._nursery.cancel_scope.cancel(reason="the session ends")

    # -- the tasks ---------------------------------------------------------------------------------

    async def _take_messages(self) -> None:
        try:
            while True:
                message = await self._websocket.receive()
                self._messages.take(MESSAGES)
                self._asked.send_nowait(message)
        except (RateLimited, trio.WouldBlock):
            self._end(Farewell(CloseCode.POLICY, "too many messages"))
        except Closing as closing:
            self._end(closing.farewell)

    async def _obey_messages(self) -> None:
        try:
            async for message in self._undone:
                await self._obey(message)
        except Closing as closing:
            self._end(closing.farewell)

    async def _read(self, subscription: Subscription) -> None:
        subscriber = subscription.subscriber
        generation = subscriber.generation
        with subscription.stack, subscription.scope:
            flush_interval = self._present_calls().settings.flush_interval
            await subscription.answered.wait()
            async for batch in subscriber:
                gap = in_a_frame(messages.gap(generation, batch.gap)) if batch.gap else b""
                await self._batches.send(gap + batch.render(render_frame))
                if flush_interval:
                    await trio.sleep(flush_interval)
            self._forget(subscription)  # first: whoever is told the end may ask for it again
            assert subscriber.end is not None
            await self._batches.send(in_a_frame(last_words(generation, subscriber.end)))
            if subscription is self._only:
                await self._batches.send(Farewell(code_of_end(subscriber.end)))

    async def _bring_replies(self) -> None:
        async for reply in self._unsent:
            await self._batches.send(in_a_frame(reply.message))
            if reply.begins is not None:
                reply.begins.answered.set()

    async def _write(self) -> None:
        async for batch in self._unwritten:
            if isinstance(batch, Farewell):
                self._end(batch)
                return
            await self._lane.write(batch)

    async def _see_draining(self) -> None:
        await self._hub.wait_draining()
        while self._subscriptions:  # each is read to its end, or told how it ended
            await self._changed.park()
        await self._batches.send(Farewell(CloseCode.DRAINING, "shutting_down"))

    # -- what the client asks for: done and answered in order --------------------------------------

    async def _obey(self, message: str | bytes) -> None:
        if not isinstance(message, str):
            raise Closing(CloseCode.POLICY, "messages must be text")
        try:
            command = messages.read_command(message)
        except messages.Garbage as error:
            raise Closing(CloseCode.POLICY, str(error)) from None
        except messages.Misunderstood as error:
            refusal = messages.refused(failure_of(BadRequest(str(error))), error.ref)
            self._reply(Reply(refusal))
            return
        try:
            reply = await self._do(command)
        except REFUSALS as error:
            self._refusals.count(error)
            reply = Reply(messages.refused(failure_of(error), command.ref))
        if reply is not None:
            self._reply(reply)

    async def _do(self, command: messages.Command) -> Reply | None:
        self._check_key()
        match command:
            case messages.Generate(ref=ref):
                subscription, cache = await self._generate(command)
                generation = subscription.subscriber.generation
                return Reply(messages.started(generation, ref, cache), subscription)
            case messages.Subscribe(generation=generation_id, after=after, mode=mode, ref=ref):
                subscription = await self._read_on(generation_id, after, mode)
                return Reply(
                    messages.subscribed(subscription.subscriber.generation, ref), subscription
                )
            case messages.Unsubscribe(generation=generation_id, ref=ref):
                subscription = self._subscriptions.get(generation_id)
                if subscription is None:
                    raise UnknownGeneration(f"{generation_id} is not read here")
                self._forget(subscription)
                subscription.scope.cancel(reason="unsubscribed")
                if subscription is self._only:
                    raise Closing(CloseCode.DONE, "unsubscribed")
                return Reply(messages.unsubscribed(generation_id, ref))
            case messages.Cancel(generation=generation_id, ref=ref):
                calls = self._present_calls()
                reaching = calls.reach(self._caller, generation_id, up_to_now=True)
                async with reaching as generation:
                    calls.stop(generation)
                    return Reply(messages.cancelled(generation, ref))
            case messages.Ping(ref=ref):
                return Reply(messages.pong(ref))
            case messages.Pong():
                return None

    def _check_key(self) -> None:
        """Raise :exc:`Unauthorized` where the key has been revoked meanwhile, or means another."""
        tenant = self._tenants.identify(self._caller.headers)
        if (tenant.name, tenant.is_admin) != (self._caller.tenant, self._caller.is_admin):
            raise Unauthorized("the API key stands for another by now: connect again")

    async def _generate(
        self, command: messages.Generate
    ) -> tuple[Subscription, messages.CacheStatus]:
        calls = self._present_calls()
        settings = calls.settings
        dialect = asked_dialect(command.path)
        body = body_to_stream(bytes(command.body), dialect)
        linger = settings.linger if command.linger is None else check_linger(command.linger)
        asking = read_asking(
            self._caller,
            command.path,
            dialect,
            body,
            streamed=True,
            coalesce=settings.coalesce,
            mode=command.mode,
            own_key=command.key,
            linger=linger,
            accepted_at=trio.current_time(),
        )
        async with calls.place(asking, body) as placed:
            subscription = self._subscribe(calls.join(self._caller, asking, body, placed))
        return subscription, cache_status(subscription.subscriber.generation, asking)

    async def _read_on(self, generation_id: str, after: int | None, mode: Mode) -> Subscription:
        calls = self._present_calls()
        is_live = mode == "live" and after is None
        reaching = calls.reach(self._caller, generation_id, after=after, up_to_now=is_live)
        async with reaching as generation, calls.seat(generation.tenant):
            return self._subscribe(calls.read(generation, after=after, mode=mode))

    def _subscribe(self, joining: AbstractContextManager[Subscriber]) -> Subscription:
        with ExitStack() as stack:
            subscriber = stack.enter_context(joining)
            generation_id = subscriber.generation.id
            if generation_id in self._subscriptions:
                raise BadRequest(f"{generation_id} is read here already", "generation")
            # Now the stack is its task's, which a nursery starts even if it is being cancelled.
            subscription = Subscription(subscriber, stack.pop_all())
        self._subscriptions[generation_id] = subscription
        self._nursery.start_soon(self._read, subscription)
        return subscription

    def _forget(self, subscription: Subscription) -> None:
        generation_id = subscription.subscriber.generation.id
        if self._subscriptions.get(generation_id) is subscription:
            del self._subscriptions[generation_id]
            self._changed.unpark_all()

    def _reply(self, reply: Reply) -> None:
        try:
            self._replies.send_nowait(reply)
        except trio.WouldBlock:
            raise Closing(CloseCode.POLICY, "answers are not read") from None
