"""A generation of another node as the source of a replica here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType

from trioproxy.cluster.broker import OWNER_LOST
from trioproxy.cluster.codec import Codec
from trioproxy.cluster.entries import Batch, Ending, Head, Part
from trioproxy.cluster.following import BrokerLost, Followed
from trioproxy.fanout import ABANDONED, Arrival, Ended, Gap, SourceFailed
from trioproxy.fanout.outcome import Outcome, failed
from trioproxy.wire import Message

OnMessage = Callable[[Message], Outcome | None]


class OwnerLost(SourceFailed):
    """The node that made the call is gone, or was taken for gone: to be asked for again."""


class ClusterLost(SourceFailed):
    """This node has lost the broker, and with it what others own."""


class Mirror:
    """A source that reads the log of a generation that another node owns.

    Entering waits until the head is known. It may have been lost, which is no harm unless it
    ``needs_head``: then all is lost. ``on_message`` is told each message as it comes, and tells the
    outcome that it decides, if it does: whoever was told it is told nothing else, though the owner
    be lost before it has said the same. Leaving, by whatever way, is ``on_exit``.
    """

    def __init__(
        self,
        followed: Followed,
        codec: Codec,
        on_message: OnMessage,
        on_exit: Callable[[], None],
        *,
        needs_head: bool = False,
    ) -> None:
        self.head: object = None
        self._followed = followed
        self._codec = codec
        self._on_message = on_message
        self._on_exit = on_exit
        self._needs_head = needs_head
        self._ahead: list[Part] = []

    async def __aenter__(self) -> Mirror:
        """Raises what the owner's source raised where it could not be entered, and
        :class:`OwnerLost` or :class:`ClusterLost`."""
        try:
            self._ahead = await self._take()
            match self._ahead[0]:
                case Head(data):
                    self.head = self._codec.unpack_head(data)
                case Ending() as ending:
                    raise self._ended(ending)
                case Batch() | Gap() if self._needs_head:
                    raise OwnerLost("owner_lost", "what the answer began with is lost: try again")
                case Batch() | Gap():
                    pass
        except BaseException:
            self._on_exit()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._on_exit()

    def __aiter__(self) -> AsyncIterator[Sequence[Arrival] | Gap]:
        return self

    async def __anext__(self) -> Sequence[Arrival] | Gap:
        """The next part. Raises :class:`~trioproxy.fanout.Ended` behind the last."""
        while True:
            if not self._ahead:
                self._ahead = await self._take()
            match self._ahead.pop(0):
                case Batch(_, messages):
                    return [self._arrival(message) for message in messages]
                case Gap() as gap:
                    return gap
                case Ending() as ending:
                    raise self._ended(ending)
                case Head():
                    pass  # the one that is known, or it is told again

    async def _take(self) -> list[Part]:
        try:
            return await self._followed.take()
        except BrokerLost as error:
            raise ClusterLost("broker_lost", str(error)) from None

    def _arrival(self, message: Message) -> Arrival:
        return Arrival(message.name, message.data, self._on_message(message))

    def _ended(self, ending: Ending) -> Exception:
        outcome = ending.outcome
        was_lost = outcome == ABANDONED and self._followed.ran  # this node was taken for gone
        if outcome == OWNER_LOST or was_lost:
            return OwnerLost("owner_lost", "the node that made the call is gone: try again")
        if outcome.kind == "failed" and ending.detail:
            error = self._codec.unpack_error(ending.detail)
            return Ended(failed(error.reason, error, told=outcome.told))
        return Ended(outcome)
