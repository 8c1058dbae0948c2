"""How a node says what happens between it and the broker, to whoever wants to count it."""

from __future__ import annotations

from collections.abc import Sequence

from trioproxy.cluster.entries import Batch
from trioproxy.cluster.errors import BrokerError
from trioproxy.fanout import Generation


class NodeWatch:
    """Is told what happens, in the step in which it happens. Here, every method does nothing. None
    may wait or raise."""

    def linked(self) -> None:
        """There is a link to the broker, where there was none."""

    def failed(self, operation: str, error: BrokerError) -> None:
        """The broker did not do what it was asked, for a reason of its own or of the link's."""

    def elected(self, *, is_owner: bool) -> None:
        """It is known who makes a call: this node, or another."""

    def published(self, batches: Sequence[Batch], seconds: float) -> None:
        """The broker has these events by one write, of one generation or of several: so long after
        there was something to be written."""

    def fenced(self, generation: Generation) -> None:
        """This node was taken for dead, and tells nothing more of what it owned."""

    def restored(self, generation: Generation) -> None:
        """The broker had lost it, and has it again."""

    def reaped(self) -> None:
        """One whose owner is gone was ended."""


WATCHED_BY_NOBODY = NodeWatch()
