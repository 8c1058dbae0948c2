"""What a log is made of: how its entries are packed, and how a cursor follows them.

The log of a generation is a stream of entries with the ids ``<fence>-<seq>``, in this order: its
head (``seq`` 0, if it was told), batches of events (``seq`` of the last one), and one ending
(``seq`` past the last event). The events of a batch are dense, so its id and their number tell
which they are. Two batches may overlap where one was published again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from trioproxy.cluster.errors import EntryTooLarge
from trioproxy.fanout.event import Gap
from trioproxy.fanout.outcome import Kind, Outcome, failed
from trioproxy.wire import Message

logger = logging.getLogger(__name__)

BATCH_BYTES = 64 * 1024
"""What a batch holds at most, if it is of more than one event."""

MAX_ENTRY_BYTES = 32 * 1024 * 1024
"""An event may be as large as a transcript; beyond this a broker is no place for it."""

HEAD, EVENTS, OUTCOME = b"h", b"e", b"o"
"""The fields of entries. Each has one of them."""


class Cursor(NamedTuple):
    """A place in a log: after everything up to ``seq``, written under ``fence``."""

    fence: int
    seq: int


START = Cursor(0, 0)


class Head(NamedTuple):
    """What was known when the upstream answered: opaque here."""

    data: bytes


class Batch(NamedTuple):
    """Events ``first`` to ``last``, at least one, dense."""

    first: int
    messages: Sequence[Message]

    @property
    def last(self) -> int:
        """The seq of its last event."""
        return self.first + len(self.messages) - 1


class Ending(NamedTuple):
    """How it ended, after event ``last``. ``detail`` is opaque here. Nothing comes after it."""

    last: int
    outcome: Outcome
    detail: bytes = b""


Part = Head | Batch | Gap | Ending
"""What reading a log yields."""


class Entry(NamedTuple):
    """One entry as the broker keeps it."""

    fence: int
    seq: int
    fields: Mapping[bytes, bytes]


class _Outcome(msgspec.Struct, array_like=True, frozen=True):
    kind: Kind
    reason: str | None
    told: bool
    detail: bytes


_encoder = msgspec.msgpack.Encoder()
_messages = msgspec.msgpack.Decoder(list[Message])
_outcomes = msgspec.msgpack.Decoder(_Outcome)


def batches(first: int, messages: Sequence[Message]) -> Iterator[Batch]:
    """Events from ``first`` on, in batches of at most :data:`BATCH_BYTES`; an event that is larger
    has one of its own."""
    begin, size = 0, 0
    for index, message in enumerate(messages):
        size += len(message.data)
        if size > BATCH_BYTES and index > begin:
            yield Batch(first + begin, messages[begin:index])
            begin, size = index, len(message.data)
    if begin < len(messages):
        yield Batch(first + begin, messages[begin:])


def pack_batch(batch: Batch) -> bytes:
    """The payload of a batch. Raises :class:`EntryTooLarge`."""
    payload = _encoder.encode(batch.messages)
    if len(payload) > MAX_ENTRY_BYTES:
        raise EntryTooLarge(f"a batch of {len(payload)} bytes; {MAX_ENTRY_BYTES} is the most")
    return payload


def pack_outcome(outcome: Outcome, detail: bytes = b"") -> bytes:
    """The payload of an ending. What a failed source raised stays with its owner."""
    return _encoder.encode(_Outcome(outcome.kind, outcome.reason, outcome.told, detail))


def follow(cursor: Cursor, entries: Sequence[Entry]) -> tuple[Cursor, list[Part]]:
    """What entries bring who stands at ``cursor``, and where it stands then.

    The parts are dense: what was read already is left out, and what is missing (a head that was
    trimmed) is told as a gap. An entry that cannot be read ends the log as ``failed(unreadable)``.
    """
    parts: list[Part] = []
    for entry in entries:
        try:
            part = _unpack(entry)
        except msgspec.MsgspecError as error:
            logger.warning("entry %d-%d cannot be read: %s", entry.fence, entry.seq, error)
            part = Ending(cursor.seq, failed("unreadable"))
        match part:
            case Head():
                parts.append(part)
            case Batch(first, messages):
                if first > cursor.seq + 1:
                    parts.append(Gap(cursor.seq + 1, first - 1))
                if first <= cursor.seq:
                    part = Batch(cursor.seq + 1, messages[cursor.seq + 1 - first :])
                if part.messages:
                    parts.append(part)
            case Ending(last):
                if last > cursor.seq:
                    parts.append(Gap(cursor.seq + 1, last))
                parts.append(part)
        cursor = Cursor(entry.fence, max(cursor.seq, entry.seq))
        if isinstance(part, Ending):
            break
    return cursor, parts


def _unpack(entry: Entry) -> Head | Batch | Ending:
    match entry.fields:
        case {b"h": head}:
            return Head(head)
        case {b"e": payload}:
            messages = _messages.decode(payload)
            if not 0 < len(messages) <= entry.seq:
                raise msgspec.DecodeError(f"it cannot have {len(messages)} events")
            return Batch(entry.seq - len(messages) + 1, messages)
        case {b"o": payload}:
            kind, reason, told, detail = msgspec.structs.astuple(_outcomes.decode(payload))
            return Ending(entry.seq - 1, Outcome(kind, reason, told=told), detail)
        case _:
            raise msgspec.DecodeError("it has none of the fields that are known")
