"""When each read of an upstream's stream was, and what it brought."""

from __future__ import annotations

from array import array
from bisect import bisect_left

KEPT_READS = 65_536
"""Of so many reads, the last, the times are kept: 24 bytes for each."""


class Reads:
    """The reads of one stream, noted one by one; what is told of them is of those that are kept.

    ``text_events`` is how many events with text have come.
    """

    def __init__(self) -> None:
        # Of each read: when it was, the seq of its last event, the events with text until then.
        self._times = array("d")
        self._seqs = array("Q")
        self._texts = array("Q")
        self._forgotten = (0, 0.0)  # events with text, and the time, of the last that is not kept
        self._note_time = self._times.append  # on the path of every token
        self._note_seq = self._seqs.append
        self._note_texts = self._texts.append

    def note(self, when: float, seq: int, texts: int) -> None:
        """There was one: its last event, and the events with text until then."""
        self._note_time(when)
        self._note_seq(seq)
        self._note_texts(texts)
        if len(self._times) == 2 * KEPT_READS:
            self._forgotten = (self._texts[KEPT_READS - 1], self._times[KEPT_READS - 1])
            for column in (self._times, self._seqs, self._texts):
                del column[:KEPT_READS]

    @property
    def text_events(self) -> int:
        return self._texts[-1] if self._texts else 0

    @property
    def last_text_at(self) -> float:
        """When the latest event with text came; there must have been one."""
        return self._times[bisect_left(self._texts, self.text_events)]

    def came_at(self, seq: int) -> float:
        """When the event came, or the oldest read of which the time is kept."""
        if seq == self._seqs[-1]:  # the usual case of a reader that keeps up
            return self._times[-1]
        return self._times[bisect_left(self._seqs, seq)]

    def gaps(self) -> list[float]:
        """Seconds between one event with text and the next, as they came: 0 within a read."""
        gaps: list[float] = []
        seen, before = self._forgotten
        has_first = not seen
        for when, texts in zip(self._times, self._texts, strict=True):
            if texts > seen:
                gaps.append(when - before)
                gaps += [0.0] * (texts - seen - 1)
                seen, before = texts, when
        return gaps[1:] if has_first else gaps  # there is none before the first

    def recent_gaps(self, number: int) -> list[float]:
        """The last of :meth:`gaps` that were between two reads."""
        gaps: list[float] = []
        texts, times = self._texts, self._times
        latest: float | None = None
        for index in range(len(times) - 1, -1, -1):
            if len(gaps) == number:
                break
            if texts[index] > (texts[index - 1] if index else self._forgotten[0]):
                if latest is not None:
                    gaps.append(latest - times[index])
                latest = times[index]
        return gaps[::-1]

    def timeline(self) -> list[tuple[int, float]]:
        """Of each: the seq of its last event, and when it was."""
        return list(zip(self._seqs, self._times, strict=True))
