"""Server-sent events over bytes: a parser that is fed chunks, and an encoder.

The rules are those of the WHATWG HTML standard, sections 9.2.5 "Parsing an event stream" and 9.2.6
"Interpreting an event stream" (https://html.spec.whatwg.org/multipage/server-sent-events.html).
Three things shape this module:

* Bytes stay bytes. A line ends in CR, LF or CRLF and in nothing else. The line splitting of `str`
  also cuts at U+2028, U+0085, vertical tab and others, all of which are legal inside a JSON string.
* A chunk is any run of bytes: a CRLF, a byte order mark or a UTF-8 character may be cut in two.
  However they are cut, the same bytes give the same messages.
* The work is linear in the input, and what is held between two chunks is bounded.

Bytes are searched by ``find``: ``in`` first tries what it looks for as a number, which costs twice
as much as the search.
"""

from typing import NamedTuple, NoReturn

_BOM = b"\xef\xbb\xbf"

# int() refuses more than 4300 digits; 18 digits of milliseconds are 30 million years.
_MAX_RETRY_DIGITS = 18


class Message(NamedTuple):
    """One event of a stream.

    `name` is the value of the `event` field, None where that is absent or empty. `data` is the
    values of the `data` fields, joined by LF.
    """

    name: bytes | None
    data: bytes


class EventTooLarge(ValueError):
    """The stream holds a line, or an event's data, of more than `max_event_bytes` bytes."""

    def __init__(self, max_event_bytes: int) -> None:
        super().__init__(f"the stream holds an event of more than {max_event_bytes} bytes")
        self.max_event_bytes = max_event_bytes


class SSEParser:
    """Turns the chunks of one event stream into messages.

    Neither a line (without its end) nor the data of one event may exceed `max_event_bytes`; this
    bounds what the parser holds between two calls.

    Attributes:
        comments: the number of comment lines so far; keep-alives are comments.
        last_event_id: the `id` in force at the last blank line, at first b"" (WHATWG: "last event
            ID string"). An event that never got its blank line does not change it.
        retry: the reconnection time that the stream asked for last, in milliseconds, or None.
    """

    def __init__(self, max_event_bytes: int = 1 << 20) -> None:
        self.comments = 0
        self.last_event_id = b""
        self.retry: int | None = None
        self._max_event_bytes = max_event_bytes
        self._dead = False
        self._start: bytes | None = b""  # may become a byte order mark; None once that is settled
        self._after_cr = False  # an LF that comes next belongs to the CR that ended the last chunk
        self._line = bytearray()  # the line whose end has not come
        self._id = b""
        self._name: bytes | None = None
        self._data: bytes | None = None  # the first data line, which is nearly always the only one
        self._more = bytearray()  # for each further data line: LF and its value

    def feed(self, chunk: bytes) -> list[Message]:
        """Take the next bytes of the stream; return the messages that they complete, in order.

        Raises `EventTooLarge` at the first line or event beyond the bound and on every later call:
        the parser is dead then. The messages that the same chunk completed before are lost, which
        takes a chunk larger than the bound.
        """
        self._require_alive()
        messages: list[Message] = []
        for line in self._lines(chunk):
            if line:
                self._field(line)
            elif (message := self._end_event()) is not None:
                messages.append(message)
        return messages

    def feed_with_ids(self, chunk: bytes) -> list[tuple[bytes, Message]]:
        """The same, each message with the id in force at its blank line.

        That of an event without an `id` of its own is the one that came before it: where ids never
        repeat, an event that has the same as the last had none.
        """
        self._require_alive()
        messages: list[tuple[bytes, Message]] = []
        for line in self._lines(chunk):
            if line:
                self._field(line)
            elif (message := self._end_event()) is not None:
                messages.append((self._id, message))
        return messages

    def finish(self) -> Message | None:
        """End the stream; return the event whose final blank line is missing, or None.

        A browser discards such an event. Here the caller decides: it may be a terminal event whose
        blank line was forgotten, or half of an event that was cut off. An unterminated last line
        counts as a line, so the data may be a part of what was meant. Raises `EventTooLarge` as
        `feed` does.
        """
        self._require_alive()
        if self._line:
            self._field(bytes(self._line))
            self._line.clear()
        return self._take_pending()

    def _lines(self, chunk: bytes) -> list[bytes]:
        """Return the lines that the chunk completes, without their ends, and keep the rest."""
        if self._start is not None:
            chunk = self._after_start(chunk, self._start)
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if chunk.find(b"\r") >= 0:
            self._after_cr = chunk.endswith(b"\r")
            chunk = _with_lf(chunk)
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines and self._line:
            lines[0] = bytes(self._line) + lines[0]
            self._line.clear()
        if rest:
            self._line += rest
            # Checked here too: a line that never ends is never returned.
            if len(self._line) > self._max_event_bytes:
                self._die()
        return lines

    def _after_start(self, chunk: bytes, held: bytes) -> bytes:
        """Drop the byte order mark; hold back a start that may still become one."""
        start = held + chunk
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._start = start
            return b""
        self._start = None
        return start.removeprefix(_BOM)

    def _field(self, line: bytes) -> None:
        """Process one line that is not blank."""
        if len(line) > self._max_event_bytes:
            self._die()
        name, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if name == b"data":
            self._append_data(value)
        elif name == b"event":
            self._name = value or None
        elif name == b"id":
            if value.find(b"\0") < 0:
                self._id = value
        elif name == b"retry":
            if value.isdigit() and len(value) <= _MAX_RETRY_DIGITS:
                self.retry = int(value)
        elif not name:  # it begins with the colon
            self.comments += 1

    def _append_data(self, value: bytes) -> None:
        if self._data is None:
            self._data = value
            return
        self._more += b"\n" + value
        if len(self._data) + len(self._more) > self._max_event_bytes:
            self._die()

    def _end_event(self) -> Message | None:
        """Process a blank line."""
        self.last_event_id = self._id
        return self._take_pending()

    def _take_pending(self) -> Message | None:
        """Return the event so far, if it has data, and begin the next one."""
        name, data = self._name, self._data
        self._name = self._data = None
        if data is None:
            return None
        if self._more:
            data += self._more
            self._more.clear()
        return Message(name, data)

    def _require_alive(self) -> None:
        if self._dead:
            raise EventTooLarge(self._max_event_bytes)

    def _die(self) -> NoReturn:
        self._dead = True
        raise EventTooLarge(self._max_event_bytes)


def encode(message: Message, event_id: bytes | None = None) -> bytes:
    """Return the frame of one event: its name, a `data` line per line of data, its id, a blank.

    The id comes last, because a widely used client (fetch-event-source) takes note of it before the
    event is whole, and would not ask again for one that was cut behind it.

    Any data is safe: CRLF, CR and LF each begin a further `data` line, so that the parser gives
    them back as LF. Raises `ValueError` if the id or the name holds CR or LF, or the id
    NUL, for which readers would ignore it.
    """
    name, data = message
    if data.find(b"\n") >= 0 or data.find(b"\r") >= 0:
        data = _with_lf(data).replace(b"\n", b"\ndata: ")
    head = b"event: %b\n" % _one_line("name", name) if name else b""
    if event_id is None:
        return b"".join((head, b"data: ", data, b"\n\n"))
    if event_id.find(b"\0") >= 0:
        raise ValueError(f"an event's id must not hold NUL: {event_id!r}")
    return b"".join((head, b"data: ", data, b"\nid: ", _one_line("id", event_id), b"\n\n"))


def encode_comment(text: bytes = b"") -> bytes:
    """Return a comment, which clients ignore; without text it is the shortest keep-alive.

    No blank line follows: a comment needs none, and the official OpenAI client takes a blank line
    for an event without data, which it cannot read, once it has seen an id (openai 3.54).
    """
    lines = _with_lf(text).split(b"\n")
    return b"".join(b": " + line + b"\n" if line else b":\n" for line in lines)


def _with_lf(text: bytes) -> bytes:
    """Return the text with every line end made LF."""
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _one_line(what: str, value: bytes) -> bytes:
    if value.find(b"\n") >= 0 or value.find(b"\r") >= 0:
        raise ValueError(f"an event's {what} must not hold CR or LF: {value!r}")
    return value
