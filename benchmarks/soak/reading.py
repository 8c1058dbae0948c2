"""What one reader sees of one stream, held against what the engine must have said."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.soak.questions import COMPLETED, TOLD, Question

_SHOWN_BYTES = 200


class Violation(Exception):
    """A promise of the proxy's was not kept; the message says which, and where."""


class Reading:
    """The stream of one response, fed in any pieces.

    Checked are, event by event: that ids are of one generation and their seqs dense, that each
    event has the text that the engine has said at that seq, and that there is one end, after which
    nothing comes. It knows of server-sent events (WHATWG HTML, section 9.2) what the proxy writes.

    Attributes:
        generation_id: whose events are read.
        cursor: the seq of the last event; 0 before the first that any reader may begin with, None
            before the first of a reader that takes what comes next.
        count: how many events came.
        ending: how the stream ended: COMPLETED, TOLD, or the code of the proxy's error; None while
            it goes on.
    """

    def __init__(self, question: Question, generation_id: str, *, cursor: int | None) -> None:
        self.generation_id = generation_id
        self.cursor = cursor
        self.count = 0
        self.ending: str | None = None
        self._texts = question.texts
        self._error: str | None = None
        self._rest = b""
        self._id: str | None = None
        self._data: bytes | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has said how it ends; only [DONE] may be still to come."""
        return self.ending is not None or self._error is not None

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body. Raises :class:`Violation`."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)

    def close(self) -> None:
        """The body has ended. Raises :class:`Violation` where the stream has not."""
        if self.ending is None:
            raise Violation(f"the body ended after event {self.cursor}, and the stream did not")

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b": ")
        if not line:
            self._dispatch()
        elif name == b"id" and self._id is None:
            self._id = value.decode()
        elif name == b"data" and self._data is None:
            self._data = value
        elif not line.startswith(b":"):
            raise Violation(f"a line that is out of place: {line[:_SHOWN_BYTES]!r}")

    def _dispatch(self) -> None:
        data, event_id = self._data, self._id
        self._data = self._id = None
        if data is None:
            raise Violation(f"an event without data, after event {self.cursor}")
        if self.ending is not None:
            raise Violation(f"an event after the end: {data[:_SHOWN_BYTES]!r}")
        self.count += 1
        if event_id is not None:
            self._advance(event_id)
        if data == b"[DONE]":
            self._end(event_id)
            return
        try:
            payload = json.loads(data)
        except ValueError:
            raise Violation(f"an event that is no JSON: {data[:_SHOWN_BYTES]!r}") from None
        if "error" in payload:
            self._fail(payload["error"], event_id)
        elif event_id is None:
            raise Violation(f"an event without an id: {data[:_SHOWN_BYTES]!r}")
        else:
            self._check_text(payload)

    def _advance(self, event_id: str) -> None:
        generation_id, _, seq = event_id.rpartition(":")
        if generation_id != self.generation_id:
            raise Violation(f"event {event_id} in the stream of {self.generation_id}")
        if self.cursor is not None and int(seq) != self.cursor + 1:
            raise Violation(f"event {seq} came after event {self.cursor}")
        self.cursor = int(seq)

    def _end(self, event_id: str | None) -> None:
        if self._error is not None:
            self.ending = self._error
        elif event_id is not None and self.cursor == len(self._texts) + 1:
            self.ending = COMPLETED
        else:
            raise Violation(
                f"[DONE] after event {self.cursor} of {len(self._texts)}, for no reason"
            )

    def _fail(self, error: dict[str, Any], event_id: str | None) -> None:
        if self._error is not None:
            raise Violation(f"a second error: {error}, after {self._error}")
        if event_id is None:  # the proxy's own
            self._error = str(error["code"])
        elif self.cursor == len(self._texts) + 1:
            self._error = TOLD
        else:
            raise Violation(f"the engine's error is event {self.cursor}: {error}")

    def _check_text(self, payload: dict[str, Any]) -> None:
        seq = self.cursor or 0
        if self._error is not None:
            raise Violation(f"event {seq} came after the error {self._error}")
        if seq > len(self._texts):
            raise Violation(f"event {seq} of a stream of {len(self._texts)}")
        [choice] = payload["choices"]
        text = choice["delta"].get("content", "") if "delta" in choice else choice["text"]
        if text != self._texts[seq - 1]:
            raise Violation(f"event {seq} says {text!r}, the engine {self._texts[seq - 1]!r}")
