"""One WebSocket: the generations that it reads, what its client asks for, and how it is closed.

Four tasks share a session. One takes what the client sends, always, and never waits for anything
else: whoever does not take it would not see the client leave. One for each subscription reads its
generation. One writes, so that no message is ever cut by the leaving of its reader: a subscription
hands its batch over and can be cancelled until it is taken. One brings the answers to it. Whatever
ends the session cancels them all, and with them every subscription's scope.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from enum import IntEnum

import trio
from quart.wrappers import Websocket

from trioproxy.config import Settings
from trioproxy.fanout import (
    Evicted,
    FanoutError,
    Generation,
    Hub,
    HubClosed,
    Mode,
    Outcome,
    Subscriber,
    TooManyGenerations,
    TooManySubscribers,
    UnknownGeneration,
)
from trioproxy.web import messages
from trioproxy.web.asking import asked_dialect, body_to_stream, check_linger, read_asking
from trioproxy.web.caller import Caller
from trioproxy.web.calls import Calls
from trioproxy.web.failures import Mismatch, failure_of, failure_of_end
from trioproxy.wire import BadRequest

REFUSALS = (BadRequest, Mismatch, FanoutError)
"""What was asked for cannot be had; the session goes on."""

MESSAGES_PER_SECOND = 50.0
MESSAGES_AT_ONCE = 500
"""A client that sends more is closed: 500 at once, and 50 more each second."""

ANSWERS_AT_ONCE = 500
"""So many answers may wait for a client that asks and does not read."""

CLOSE_SECONDS = 1.0
"""How long a client may take to read why it is closed."""

MAX_REASON_BYTES = 123
"""RFC 6455, section 5.5: a control frame's payload less the code."""


class CloseCode(IntEnum):
    """Why a WebSocket is closed (RFC 6455, section 7.4, and the registry that it founded)."""

    DONE = 1000
    POLICY = 1008
    DRAINING = 1012
    OVERLOAD = 1013
    SLOW = 4408


@dataclass(frozen=True, slots=True)
class Farewell:
    """The last thing that a session says."""

    code: CloseCode
    reason: str = ""


class Closing(Exception):
    """What the client did ends the session."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.farewell = Farewell(code, reason)


@dataclass(eq=False)
class Subscription:
    """A generation that the session reads. ``stack`` holds the subscriber; leaving it is leaving
    the generation."""

    subscriber: Subscriber
    stack: ExitStack
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Allowance:
    """How many messages a client may send: a bucket that fills with time."""

    def __init__(self) -> None:
        self._left = float(MESSAGES_AT_ONCE)
        self._at = trio.current_time()

    def spend(self) -> None:
        """Take one. Raises :class:`Closing` where there is none."""
        now = trio.current_time()
        grown = self._left + (now - self._at) * MESSAGES_PER_SECOND
        self._left, self._at = min(grown, MESSAGES_AT_ONCE) - 1, now
        if self._left < 0:
            raise Closing(CloseCode.POLICY, "too many messages")


class Session:
    """What one client reads and asks for over one WebSocket, which has been accepted."""

    def __init__(
        self, websocket: Websocket, caller: Caller, settings: Settings, hub: Hub, calls: Calls
    ) -> None:
        self._websocket = websocket
        self._caller = caller
        self._settings = settings
        self._hub = hub
        self._calls = calls
        self._subscriptions: dict[str, Subscription] = {}
        self._changed = trio.lowlevel.ParkingLot()
        self._only: Subscription | None = None
        self._farewell = Farewell(CloseCode.DONE)
        self._allowance = Allowance()
        self._batches, self._unwritten = trio.open_memory_channel[list[bytes] | Farewell](0)
        self._answers, self._unanswered = trio.open_memory_channel[bytes](ANSWERS_AT_ONCE)
        self._nursery: trio.Nursery

    async def run(self) -> None:
        """Do what the client asks until either side closes. On return it reads nothing more.

        If cancelled, which is how the client's departure is told, every subscription has been left.
        """
        await self._run(lambda: None)

    async def run_for(self, generation_id: str, *, after: int | None, mode: Mode) -> None:
        """The same, for a WebSocket that is there to read one generation: it is read from the
        beginning, and its end is the session's."""

        def open_only() -> None:
            try:
                generation = self._calls.find(self._caller.tenant, generation_id)
                self._only = self._subscribe(self._calls.read(generation, after=after, mode=mode))
            except REFUSALS as error:
                self._end(Farewell(_code_of_refusal(error), failure_of(error).code or ""))

        await self._run(open_only)

    async def _run(self, begin: Callable[[], None]) -> None:
        with self._batches, self._unwritten, self._answers, self._unanswered:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._take_messages)
                self._nursery.start_soon(self._write)
                self._nursery.start_soon(self._bring_answers)
                self._nursery.start_soon(self._see_draining)
                begin()
        with trio.move_on_after(CLOSE_SECONDS):
            reason = self._farewell.reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
            await self._websocket.close(self._farewell.code, reason)

    def _end(self, farewell: Farewell) -> None:
        self._farewell = farewell
        self._nursery.cancel_scope.cancel(reason="the session ends")

    # -- the tasks ---------------------------------------------------------------------------------

    async def _take_messages(self) -> None:
        try:
            while True:
                message = await self._websocket.receive()
                self._allowance.spend()
                self._obey(message)
        except Closing as closing:
            self._end(closing.farewell)

    async def _read(self, subscription: Subscription) -> None:
        subscriber = subscription.subscriber
        generation = subscriber.generation
        with subscription.stack, subscription.scope:
            async for batch in subscriber:
                gap = [messages.gap(generation, batch.gap)] if batch.gap else []
                await self._batches.send(gap + batch.frames(messages.render_event))
            self._forget(subscription)  # first: whoever is told the end may ask for it again
            assert subscriber.end is not None
            await self._batches.send([_last_words(generation, subscriber.end)])
            if subscription is self._only:
                await self._batches.send(Farewell(_code_of_end(subscriber.end)))

    async def _bring_answers(self) -> None:
        async for answer in self._unanswered:
            await self._batches.send([answer])

    async def _write(self) -> None:
        async for batch in self._unwritten:
            if isinstance(batch, Farewell):
                self._end(batch)
                return
            for message in batch:
                await self._websocket.send(message.decode())

    async def _see_draining(self) -> None:
        await self._hub.wait_draining()
        while self._subscriptions:  # each is read to its end, or told how it ended
            await self._changed.park()
        await self._batches.send(Farewell(CloseCode.DRAINING, "shutting_down"))

    # -- what the client asks for: decided at once, answered in order -----------------------------

    def _obey(self, message: str | bytes) -> None:
        if not isinstance(message, str):
            raise Closing(CloseCode.POLICY, "messages must be text")
        try:
            command = messages.read_command(message)
        except messages.Garbage as error:
            raise Closing(CloseCode.POLICY, str(error)) from None
        except messages.Misunderstood as error:
            self._answer(messages.refused(failure_of(BadRequest(str(error))), error.ref))
            return
        try:
            self._answer(self._do(command))
        except REFUSALS as error:
            self._answer(messages.refused(failure_of(error), command.ref))

    def _do(self, command: messages.Command) -> bytes:
        match command:
            case messages.Generate(ref=ref):
                subscriber, is_new = self._generate(command)
                return messages.started(subscriber.generation, ref, is_new=is_new)
            case messages.Subscribe(generation=generation_id, after=after, mode=mode, ref=ref):
                generation = self._calls.find(self._caller.tenant, generation_id)
                self._subscribe(self._calls.read(generation, after=after, mode=mode))
                return messages.subscribed(generation, ref)
            case messages.Unsubscribe(generation=generation_id, ref=ref):
                subscription = self._subscriptions.get(generation_id)
                if subscription is None:
                    raise UnknownGeneration(f"{generation_id} is not read here")
                self._forget(subscription)
                subscription.scope.cancel(reason="unsubscribed")
                return messages.unsubscribed(generation_id, ref)
            case messages.Cancel(generation=generation_id, ref=ref):
                generation = self._calls.find(self._caller.tenant, generation_id)
                generation.cancel("stopped")
                return messages.cancelled(generation, ref)
            case messages.Ping(ref=ref) | messages.Pong(ref=ref):
                return messages.pong(ref)

    def _generate(self, command: messages.Generate) -> tuple[Subscriber, bool]:
        dialect = asked_dialect(command.path)
        body = body_to_stream(bytes(command.body), dialect)
        linger = self._settings.linger if command.linger is None else check_linger(command.linger)
        asking = read_asking(
            self._caller,
            command.path,
            dialect,
            body,
            streamed=True,
            coalesce=self._settings.coalesce,
            mode=command.mode,
            own_key=command.key,
            linger=linger,
        )
        subscriber = self._subscribe(self._calls.join(self._caller, asking, body)).subscriber
        return subscriber, subscriber.generation.origin is asking.origin

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

    def _answer(self, answer: bytes) -> None:
        try:
            self._answers.send_nowait(answer)
        except trio.WouldBlock:
            raise Closing(CloseCode.POLICY, "answers are not read") from None


def _last_words(generation: Generation, end: Outcome | Evicted) -> bytes:
    if isinstance(end, Evicted):
        return messages.evicted(generation, end, failure_of_end(end))
    failure = None if end.kind == "completed" else failure_of_end(end)
    return messages.ended(generation, end, failure)


def _code_of_end(end: Outcome | Evicted) -> CloseCode:
    match end.reason:
        case "slow":
            return CloseCode.SLOW
        case "draining" | "shutdown":
            return CloseCode.DRAINING
        case "limit":
            return CloseCode.POLICY
        case _:
            return CloseCode.DONE


def _code_of_refusal(error: Exception) -> CloseCode:
    match error:
        case TooManySubscribers() | TooManyGenerations():
            return CloseCode.OVERLOAD
        case HubClosed():
            return CloseCode.DRAINING
        case _:
            return CloseCode.POLICY
