"""A strict reader of `text/event-stream`, made for tests and independent of `trioproxy.wire`.

WHATWG HTML section 9.2.6 tells a browser to forgive: it drops unknown fields, lets the last of two
`id` lines win and forgets an event that was never finished. A proxy that sends such things has a
bug, and a forgiving reader would hide it, so this one raises.
"""

import re
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"
_FIELDS = frozenset({b"data", b"event", b"id", b"retry"})


class MalformedStreamError(AssertionError):
    """The stream holds something that a correct server does not send."""


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event as sent: `id` and `name` are None unless this very event carries the field."""

    id: str | None
    name: str | None
    data: bytes


class SseReader:
    """Bytes in, events out; a chunk boundary may fall anywhere.

    Attributes:
        comments: the text of every comment line so far, without its colon, oldest first.
    """

    def __init__(self) -> None:
        self.comments: list[bytes] = []
        self._partial_line = b""
        self._after_cr = False
        self._at_start = True
        self._data: list[bytes] = []
        self._others: dict[bytes, bytes] = {}

    def feed(self, data: bytes) -> list[SseEvent]:
        """Return the events that `data` completes.

        Raises:
            MalformedStreamError: an unknown or repeated field, an event without data, an `id`
                with a NUL, a `retry` that is no number.
            UnicodeDecodeError: an `id` or an `event` that is not UTF-8.
        """
        # An LF may be the second half of a CRLF whose CR has already ended its line.
        fresh = data[1:] if self._after_cr and data.startswith(b"\n") else data
        self._after_cr = fresh.endswith(b"\r")
        *lines, self._partial_line = _LINE_END.split(self._partial_line + fresh)
        if lines and self._at_start:
            lines[0] = lines[0].removeprefix(_BOM)
            self._at_start = False
        events: list[SseEvent] = []
        for line in lines:
            if line:
                self._take_field(line)
            elif self._data or self._others:
                events += self._dispatch()
        return events

    def finish(self) -> None:
        """Check that nothing is left over at the end of the stream.

        Raises:
            MalformedStreamError: the stream ended inside an event, or before its blank line.
        """
        if self._partial_line or self._data or self._others:
            raise MalformedStreamError(
                f"the stream ends inside an event: {self._partial_line!r} after "
                f"data {self._data!r} and {self._others!r}"
            )

    def _take_field(self, line: bytes) -> None:
        field, _, rest = line.partition(b":")
        if not field:
            self.comments.append(rest)
            return
        value = rest.removeprefix(b" ")
        if field not in _FIELDS:
            raise MalformedStreamError(f"unknown field in line {line!r}")
        if field == b"data":
            self._data.append(value)
            return
        if field in self._others:
            raise MalformedStreamError(f"second {field!r} in one event: {line!r}")
        if field == b"id" and b"\0" in value:
            raise MalformedStreamError(f"NUL in an id: {line!r}")
        if field == b"retry" and not value.isdigit():
            raise MalformedStreamError(f"retry is no number: {line!r}")
        self._others[field] = value

    def _dispatch(self) -> list[SseEvent]:
        """Close the event at hand: one event, or none for a block of only `id` or `retry`."""
        data, others = self._data, self._others
        self._data, self._others = [], {}
        if not data:
            if b"event" in others:
                raise MalformedStreamError(
                    f"an event without data, which no browser sees: {others}"
                )
            return []
        return [
            SseEvent(
                id=others[b"id"].decode() if b"id" in others else None,
                name=others[b"event"].decode() if b"event" in others else None,
                data=b"\n".join(data),
            )
        ]
