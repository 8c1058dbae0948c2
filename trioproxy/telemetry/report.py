"""The timing of a generation, in words and figures."""

from __future__ import annotations

from collections.abc import Sequence

from trioproxy.fanout import Subscriber
from trioproxy.telemetry.reader import Reader
from trioproxy.telemetry.timing import Timing

RECENT_GAPS = 32
"""So many gaps between tokens are told of a generation in a list: enough for a small picture."""


def describe_timing(timing: Timing) -> dict[str, object]:
    """All that is known of it, as JSON: seconds, from the request where nothing else is said; null
    for what has not come."""
    return {
        "object": "generation.timing",
        **_describe_call(timing),
        "timeline": [
            (seq, _rounded(when - timing.accepted_at)) for seq, when in timing.reads.timeline()
        ],
        "readers": [describe_reader(timing, reader) for reader in timing.all_readers],
    }


def describe_to(subscriber: Subscriber, timing: Timing) -> dict[str, object]:
    """What one of its readers is told: the same without the timeline, and nothing of the others."""
    reader = timing.readers[subscriber]
    return {**_describe_call(timing), "reader": describe_reader(timing, reader)}


def _describe_call(timing: Timing) -> dict[str, object]:
    generation = timing.generation
    return {
        "id": generation.id,
        "model": timing.origin.model,
        "accepted_at": generation.created_at - (timing.created_at - timing.accepted_at),
        "connect_seconds": timing.since_accepted(timing.connected_at),
        "head_seconds": timing.since_accepted(timing.opened_at),
        "ttft_seconds": timing.ttft,
        "duration_seconds": timing.duration,
        "cancel_to_closed_seconds": timing.cancel_to_closed,
        "tokens": timing.reads.text_events,
        "tokens_per_second": timing.tokens_per_second,
        **_describe_gaps(timing),
    }


def _describe_gaps(timing: Timing) -> dict[str, object]:
    """Worked out once for all who are told at the end, and they may be thousands."""
    if timing.told_gaps is not None:
        return timing.told_gaps
    gaps = timing.reads.gaps()
    told: dict[str, object] = {
        "inter_token_seconds": quantiles(gaps),
        "burst_share": sum(not gap for gap in gaps) / len(gaps) if gaps else None,
    }
    if timing.ended_at is not None:
        timing.told_gaps = told
    return told


def summarize_timing(timing: Timing) -> dict[str, object]:
    """What a list tells of it."""
    return {
        "model": timing.origin.model,
        "ttft_seconds": timing.ttft,
        "tokens_per_second": timing.tokens_per_second,
        "recent_gaps": [_rounded(gap) for gap in timing.reads.recent_gaps(RECENT_GAPS)],
    }


def describe_reader(timing: Timing, reader: Reader) -> dict[str, object]:
    """How a reader fares: seconds from its joining where nothing else is said."""
    joined_at = reader.joined_at
    return {
        "joining": reader.joining,
        "joined_seconds": timing.since_accepted(joined_at),
        "joined_after": reader.joined_after,
        "history": reader.history,
        "first_event_seconds": None if reader.first_at is None else reader.first_at - joined_at,
        "catch_up_seconds": (
            None if reader.caught_up_at is None else reader.caught_up_at - joined_at
        ),
        "left_seconds": timing.since_accepted(reader.left_at),
        "why": reader.why,
        "cursor": reader.cursor,
        "max_lag_bytes": reader.lag,
        "deliveries": None if reader.joining == "node" else reader.deliveries,
        "mean_delay_seconds": reader.delay / reader.deliveries if reader.deliveries else None,
        "max_delay_seconds": reader.longest_delay if reader.deliveries else None,
    }


def quantiles(values: Sequence[float]) -> dict[str, float] | None:
    """Median, 90th and 99th percentile (nearest rank), and the largest; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    ranks = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    told = {name: ordered[_rank(share, len(ordered))] for name, share in ranks.items()}
    return {**told, "max": ordered[-1]}


def _rounded(seconds: float) -> float:
    """To the microsecond, where there are many."""
    return round(seconds, 6)


def _rank(share: float, number: int) -> int:
    return max(0, -int(-share * number // 1) - 1)
