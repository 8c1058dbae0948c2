"""One call, many readers, and nothing left over: the theory of operation.

**The problem.** A language model streams an answer that costs money for as long as it runs. Several
clients want to read it; each may come late, read slowly, stall, vanish or come back. Two things
must hold whatever they do: a client never disturbs the call or another client, and when nobody
reads any more, the call ends at once.

**The shape.** A :class:`Generation` is one upstream call. It runs as a task of its own in the
nursery of the :class:`Hub`, because it must be able to outlive the request that started it, and
must never outlive the hub::

    async with open_hub() as hub:                   # the hub's nursery
        with hub.join(key, source) as subscriber:   # └─ the generation: its scope, its nursery
            async for batch in subscriber:          #    └─ the reader: enters the source, appends
                await send(batch.render(sse_frame))

A generation is joined by its key (:meth:`Hub.join`), by its id (:meth:`Hub.subscribe`), or started
for a later subscriber (:meth:`Hub.start`). There is no queue of tokens anywhere. The generation
keeps a :class:`Transcript`, an append-only log; every :class:`Subscriber` is a cursor into it. That
one decision answers most questions. A late joiner is a cursor that starts at 0, and there is no
seam between what it replays and what comes live, because both are the same list. A slow subscriber
is a cursor that lags; it holds no memory of its own and delays nobody. A subscriber that comes back
after a dropped connection is a cursor that starts where the old one stopped.

**Waking up.** A subscriber that has read everything adds itself to the set of those who wait, and
waits on its *doorbell*: a memory channel of capacity one, which carries "there is news" and never
the news. The reader appends all that one read of the upstream brought, then rings those who wait
and forgets them. It never waits for anybody, and rings each at most once a read, however many
tokens there were. A subscriber that wakes takes everything new as one *batch*; so when the machine
is busy, batches grow and the cost of a token falls.

**Sinks.** Being woken, taking a batch and writing it is most of what a token costs. A subscriber
that is caught up, and whose client can be written to without waiting, *lends* its generation a
*sink*: a non-blocking write. The *pump*, a task beside the reader, writes what is new to every sink
that is lent, each from its subscriber's own cursor, a few hundred before others get their turn.
Whatever the sink does not take at once ends the loan in the same step; the subscriber's task is
woken, catches up from the transcript at its client's pace, and may lend again. Where sinks are few,
the hub's *courier* writes to them, for all such generations one after the other, which saves the
switches.

**Deciding and waiting are kept apart.** Whatever decides something is a plain function: joining,
leaving, appending, ending. Between looking at the registry and changing it there is no ``await``,
so no other task sees a half-made decision and no cancellation can cut one in two. What is
asynchronous only waits. Hence joining is a ``with`` block, and leaving is its exit: a task that is
cancelled at any checkpoint leaves, in the same step that unwinds it, without a shield and without a
chance to be delayed.

**Leaving and lingering.** The last subscriber to leave cancels the generation's scope in that very
step. If the generation was given a *linger*, leaving sets the scope's deadline instead, and joining
takes it back: the timer is a number, not a task. A scope may have passed its deadline before trio
has noticed; a join asks ``cancel_called``, which looks at the clock, and so never boards a ship
that is already sinking.

**The end.** A generation has exactly one :class:`Outcome`: ``completed``, ``failed(reason)`` or
``cancelled(reason)``. It is decided synchronously, at the moment that decides it: an event that its
dialect calls terminal, a source that raises, a source that stops without a terminal event
(``failed("truncated")``: silence is not success), a ``cancel()``, the last leave. In that step the
generation leaves the key index, so that the next request starts afresh, and moves among the
retained ones, so that its subscribers can finish and come back. Nothing is appended after it. The
task may live a little longer, to read the rest of the body under a deadline of its own and leave
the source in good order; nobody's leaving shortens or prolongs that.

A subscriber sees a dense run of events and then exactly one end: that outcome, or its own
:class:`Evicted`.

**Bounds.** A transcript holds so many bytes, all transcripts of a hub so many together
(:class:`Limits`). Where room is short the retained ones go first, then the head of the one that
grows (``when_full="trim"``), or it fails (``"fail"``, for an answer that is worth something only if
it is whole); and while what runs leaves no room, nothing is started. A cursor that points into what
was dropped is told a :class:`Gap`, never silently moved. What befalls a subscriber that lags is its
own choice (``on_lag``): read on, skip to live after a told gap, or be sent away. What one tenant
may have at a time, of generations and of their subscribers, is its :class:`Share`.

**What cancels what.** The hub's block cancels every generation; a generation's scope cancels its
reader; the reader's source closes its connection on the way out. Nothing points the other way: a
subscriber can be cancelled at any checkpoint and the generation learns of it only as a leave. A
source that crashes fails its generation and nothing else. There is one shield, in
:mod:`trioproxy.fanout.cleanup`, and it has a deadline.

**Measuring.** Whoever wants to know how it goes gives the hub a factory of :class:`Watch`: each
generation tells its own what happens, in the step in which it does. It cannot wait, and is told of
deliveries by the pass, not by the reader.

The package knows nothing of HTTP: a *source* is any asynchronous context manager (:data:`Source`),
an event's data is bytes, and a wire format is a function (:data:`Renderer`).
"""

from trioproxy.fanout.cleanup import grace
from trioproxy.fanout.doorbell import CallingBell
from trioproxy.fanout.errors import (
    CursorAhead,
    ExpiredGeneration,
    FanoutError,
    HubClosed,
    HubFull,
    SourceFailed,
    TooManyGenerations,
    TooManySubscribers,
    TranscriptFull,
    UnknownGeneration,
)
from trioproxy.fanout.event import Arrival, Batch, Event, Gap, Renderer
from trioproxy.fanout.generation import ABANDONED, Generation, Mode
from trioproxy.fanout.hub import Hub, Identity, open_hub
from trioproxy.fanout.limits import Limits, Share, ShareOf
from trioproxy.fanout.outcome import (
    COMPLETED,
    Evicted,
    EvictionReason,
    Outcome,
    cancelled,
    failed,
)
from trioproxy.fanout.pump import Sink
from trioproxy.fanout.source import Ended, Feed, Source
from trioproxy.fanout.subscriber import OnLag, Subscriber
from trioproxy.fanout.transcript import Transcript, WhenFull
from trioproxy.fanout.watch import Watch, WatchFactory, watch_nothing

__all__ = [
    "ABANDONED",
    "COMPLETED",
    "Arrival",
    "Batch",
    "CallingBell",
    "CursorAhead",
    "Ended",
    "Event",
    "Evicted",
    "EvictionReason",
    "ExpiredGeneration",
    "FanoutError",
    "Feed",
    "Gap",
    "Generation",
    "Hub",
    "HubClosed",
    "HubFull",
    "Identity",
    "Limits",
    "Mode",
    "OnLag",
    "Outcome",
    "Renderer",
    "Share",
    "ShareOf",
    "Sink",
    "Source",
    "SourceFailed",
    "Subscriber",
    "TooManyGenerations",
    "TooManySubscribers",
    "Transcript",
    "TranscriptFull",
    "UnknownGeneration",
    "Watch",
    "WatchFactory",
    "WhenFull",
    "cancelled",
    "failed",
    "grace",
    "open_hub",
    "watch_nothing",
]
