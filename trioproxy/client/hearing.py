"""What the bytes of an answer say: events of the transcript, each with its seq, and words of the
proxy's own.

In server-sent events the proxy gives every event of the transcript an id, which ends in its seq,
and what it says itself (a heartbeat, a gap, that it has to send this reader away) none. Ids never
repeat, so an event that has the id of the one before had none of its own.

Where a stream has no room for ids, events are counted. A failure is not counted there: it may be
the engine's or the proxy's own, and the engine's will come again, with its seq, when the stream is
taken up.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import msgspec

from trioproxy.client.errors import UnexpectedAnswer
from trioproxy.wire import Dialect, EventTooLarge, Message, SSEParser, Verdict

MAX_EVENT_BYTES = 16 << 20


class Hearing(Protocol):
    """Turns the chunks of one answer into messages with their seqs; None where it is the proxy that
    speaks."""

    def feed(self, chunk: bytes) -> list[tuple[int | None, Message]]:
        """Take the next bytes. Raises :class:`UnexpectedAnswer`."""
        ...


class HearingIds:
    """Of server-sent events."""

    def __init__(self, generation_id: str) -> None:
        self._parser = SSEParser(MAX_EVENT_BYTES)
        self._prefix = f"{generation_id}:".encode()
        self._last_id = b""

    def feed(self, chunk: bytes) -> list[tuple[int | None, Message]]:
        try:
            messages = self._parser.feed_with_ids(chunk)
        except EventTooLarge as error:
            raise UnexpectedAnswer(str(error)) from error
        return [(self._seq_of(event_id), message) for event_id, message in messages]

    def _seq_of(self, event_id: bytes) -> int | None:
        if event_id == self._last_id:
            return None
        self._last_id = event_id
        seq = event_id.removeprefix(self._prefix)
        if seq == event_id or not seq.isdigit():
            raise UnexpectedAnswer(f"{event_id!r} is no event id of the generation that was asked")
        return int(seq)


class HearingCount:
    """Of lines, from the first event of the generation on."""

    def __init__(self, dialect: Dialect) -> None:
        self._parser = dialect.framing.parser(MAX_EVENT_BYTES)
        self._verdict = dialect.verdict
        self._seq = 0

    def feed(self, chunk: bytes) -> list[tuple[int | None, Message]]:
        try:
            messages = self._parser.feed(chunk)
        except EventTooLarge as error:
            raise UnexpectedAnswer(str(error)) from error
        return [(self._next_seq(message), message) for message in messages]

    def _next_seq(self, message: Message) -> int | None:
        if self._verdict(message) is Verdict.FAILED:
            return None
        self._seq += 1
        return self._seq


def words_of(data: bytes) -> tuple[str, str | None]:
    """The message for people and the code (or else the type) in an error of any API, as JSON; what
    cannot be understood is the message itself."""
    told = _innermost_error(data)
    if isinstance(told, dict):
        fields = cast(dict[str, Any], told)
        kind = fields.get("code") or fields.get("type")
        message = fields.get("message") or kind or "no reason was given"
        return str(message), None if kind is None else str(kind)
    return str(told or "no reason was given"), None


def _innermost_error(data: bytes) -> object:
    try:
        told = msgspec.json.decode(data)
    except (ValueError, RecursionError):  # of JSON that is nested too deeply
        return data[:500].decode(errors="replace")
    for envelope in ("response", "error"):  # OpenAI's responses; OpenAI, Anthropic, Ollama
        if isinstance(told, dict):
            fields = cast(dict[str, Any], told)
            told = fields.get(envelope) or fields
    return told
