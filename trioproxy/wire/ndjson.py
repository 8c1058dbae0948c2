"""JSON lines, as Ollama streams them: a message a line, without a name and without an id.

The format is that of https://github.com/ndjson/ndjson-spec: each line ends in LF, white space
around its JSON says nothing, and neither do blank lines.
"""

from trioproxy.wire.sse import EventTooLarge, Message


class NDJSONParser:
    """Turns the chunks of one stream into messages, a line each.

    No line may exceed `max_event_bytes`; this bounds what is held between two calls.
    """

    def __init__(self, max_event_bytes: int = 1 << 20) -> None:
        self._max_event_bytes = max_event_bytes
        self._line = bytearray()
        self._dead = False

    def feed(self, chunk: bytes) -> list[Message]:
        """Take the next bytes; return the lines that they complete, in order. Raises
        `EventTooLarge`, and then at every later call."""
        *lines, rest = chunk.split(b"\n")
        if lines:
            lines[0] = bytes(self._line) + lines[0]
            self._line.clear()
        self._line += rest
        if any(len(line) > self._max_event_bytes for line in (*lines, self._line)):
            self._dead = True
        if self._dead:
            raise EventTooLarge(self._max_event_bytes)
        return [Message(None, line) for line in map(_stripped, lines) if line]

    def finish(self) -> Message | None:
        """End the stream; return the line whose LF is missing, which may be a part of one."""
        line = _stripped(bytes(self._line))
        self._line.clear()
        return Message(None, line) if line else None


def encode_line(message: Message, event_id: bytes | None = None) -> bytes:
    """Return the message as one line; its id and its name have no place in it.

    A line end within the data, which JSON has only between its tokens, becomes a space.
    """
    return message.data.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"


def _stripped(line: bytes) -> bytes:
    return line.strip(b" \t\r")
