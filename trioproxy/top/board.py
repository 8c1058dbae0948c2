"""What has been told of all generations so far."""

import time
from collections.abc import Sequence

import msgspec

from trioproxy.wire import Message

ENDED_ROWS_SECONDS = 600.0
"""An ended generation is shown for as long as a proxy retains it by default."""


class Outcome(msgspec.Struct):
    kind: str
    reason: str | None = None


class Usage(msgspec.Struct):
    completion_tokens: int | None = None


class Row(msgspec.Struct):
    """A generation, as the proxy describes it. Times of day are in seconds since the epoch."""

    id: str
    state: str
    path: str
    created_at: float
    outcome: Outcome | None = None
    model: str | None = None
    subscribers: int = 0
    usage: Usage | None = None
    ttft_seconds: float | None = None
    tokens_per_second: float | None = None
    recent_gaps: Sequence[float] = ()
    ended_at: float | None = None
    node: str | None = None


class Totals(msgspec.Struct):
    """What cannot be summed up from the rows. ``missing`` are the nodes that did not answer, of
    those that were asked; None where nobody knows who is there."""

    upstream_calls: int
    saved_calls: int
    missing: Sequence[str] | None = ()


class Listing(msgspec.Struct):
    data: list[Row]
    missing: Sequence[str] | None = ()


class Board:
    """The generations by id, and their totals (None until they are told). The nodes in ``missing``
    have not told of theirs (None: it is not known which there are)."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.totals: Totals | None = None
        self.missing: Sequence[str] | None = ()

    @property
    def is_whole(self) -> bool:
        """Whether all nodes that were asked have told of theirs."""
        return self.missing is not None and not self.missing

    def list(self, listing: bytes) -> None:
        """Take all that there are, as `GET /v1/generations` tells them. Raises `ValueError`."""
        told = msgspec.json.decode(listing, type=Listing)
        self.rows = {row.id: row for row in told.data}
        self.missing = told.missing

    def take(self, message: Message) -> None:
        """Take an event of the stream. Raises `ValueError` where it cannot be read."""
        if message.name == b"generation":
            row = msgspec.json.decode(message.data, type=Row)
            self.rows[row.id] = row
        elif message.name == b"totals":
            self.totals = msgspec.json.decode(message.data, type=Totals)
            self.missing = self.totals.missing

    def in_order(self, now: float | None = None) -> Sequence[Row]:
        """Those that run, then those that have ended, each newest first; what ended long ago is
        dropped."""
        now = time.time() if now is None else now
        oldest = now - ENDED_ROWS_SECONDS
        for row in [row for row in self.rows.values() if (row.ended_at or now) < oldest]:
            del self.rows[row.id]
        return sorted(self.rows.values(), key=lambda row: (row.state != "running", -row.created_at))
