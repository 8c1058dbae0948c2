"""What one subscriber saw, from its first batch to its end."""

from __future__ import annotations

from trioproxy.fanout import Event, Evicted, Gap, Outcome, Subscriber


class Reading:
    """Follows a subscriber and keeps all that it was handed, in order.

    `end` is None until the iteration has stopped.
    """

    def __init__(self) -> None:
        self.told: list[Event | Gap] = []
        self.end: Outcome | Evicted | None = None

    async def follow(self, subscriber: Subscriber) -> None:
        """Read until the iteration stops. If cancelled, what was read so far is kept."""
        async for batch in subscriber:
            if batch.gap is not None:
                self.told.append(batch.gap)
            self.told.extend(batch.events)
        self.end = subscriber.end

    @property
    def seqs(self) -> list[int]:
        """The numbers of the events that it was handed."""
        return [told.seq for told in self.told if isinstance(told, Event)]

    @property
    def accounted(self) -> list[int]:
        """The seqs that it was handed or told to be missing, in the order of the telling."""
        seqs: list[int] = []
        for told in self.told:
            first, last = (told.seq, told.seq) if isinstance(told, Event) else told
            seqs.extend(range(first, last + 1))
        return seqs

    @property
    def data(self) -> list[bytes]:
        """The payloads of the events that it was handed."""
        return [told.data for told in self.told if isinstance(told, Event)]


async def read_to_end(subscriber: Subscriber) -> Reading:
    """All that `subscriber` is handed, once its iteration has stopped."""
    reading = Reading()
    await reading.follow(subscriber)
    return reading
