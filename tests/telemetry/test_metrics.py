"""The metrics, as Prometheus's own parser reads them."""

from __future__ import annotations

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.source import ScriptedSource
from tests.telemetry.scenes import Asked, Scene, open_scene, token
from trioproxy.fanout import Limits, SourceFailed
from trioproxy.telemetry import Gauges, Histogram, LoopLag, UpstreamFigures
from trioproxy.telemetry.metrics import MAX_MODELS, OTHER

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

CALL = {
    "gen_ai_operation_name": "text_completion",
    "gen_ai_request_model": "tiny",
    "gen_ai_provider_name": "openai",
}


def samples_of(scene: Scene) -> Samples:
    text = scene.telemetry.metrics.expose().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, frozenset(labels.items())), 0.0)


async def complete_one(scene: Scene) -> None:
    with scene.join() as subscriber:
        await trio.sleep(1)
        for _ in range(5):
            scene.arrive(token("a"))
            await trio.sleep(0.125)
        scene.source.complete()
        async for _ in subscriber:
            pass


async def test_a_generation_that_completed(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        await complete_one(scene)
        await wait_all_tasks_blocked()
        samples = samples_of(scene)

    ended = {"outcome": "completed", "reason": ""}
    assert value(samples, "trioproxy_generations_total", **ended) == 1
    ttft = "gen_ai_server_time_to_first_token_seconds"
    assert value(samples, f"{ttft}_count", **CALL) == 1
    assert value(samples, f"{ttft}_sum", **CALL) == pytest.approx(1.0)
    per_token = "gen_ai_server_time_per_output_token_seconds"
    assert value(samples, f"{per_token}_sum", **CALL) == pytest.approx(0.125)
    assert value(samples, f"{per_token}_bucket", **CALL, le="0.001") == 0
    duration = "gen_ai_server_request_duration_seconds_sum"
    assert value(samples, duration, **CALL, error_type="") == pytest.approx(1.625)
    usage = "gen_ai_client_token_usage_sum"
    assert value(samples, usage, **CALL, gen_ai_token_type="output") == 5


async def test_a_generation_that_failed_has_the_error_as_a_label(
    autojump_clock: MockClock,
) -> None:
    async with open_scene() as scene:
        with scene.join() as subscriber:
            await trio.sleep(2)
            scene.source.fail(SourceFailed("broken", "it broke"))
            async for _ in subscriber:
                pass
        samples = samples_of(scene)

    assert value(samples, "trioproxy_generations_total", outcome="failed", reason="broken") == 1
    duration = "gen_ai_server_request_duration_seconds_sum"
    assert value(samples, duration, **CALL, error_type="broken") == pytest.approx(2)
    assert value(samples, "gen_ai_server_time_to_first_token_seconds_count", **CALL) == 0


async def test_joins_evictions_saved_calls_and_cancellations(autojump_clock: MockClock) -> None:
    async with open_scene(limits=Limits(max_lag=1)) as scene:
        with scene.hub.join("key", scene.source, origin=scene.asked, on_lag="evict") as slow:
            scene.arrive(token("a"), token("b"))
            await wait_all_tasks_blocked()
            async for _ in slow:
                pass
            with scene.join(), scene.join(after=1):
                pass
        await wait_all_tasks_blocked()
        samples = samples_of(scene)

    joins = {kind: value(samples, "trioproxy_joins_total", kind=kind) for kind in KINDS}
    assert joins == {"first": 1, "late": 1, "resume": 1}
    assert value(samples, "trioproxy_upstream_calls_saved_total") == 1
    assert value(samples, "trioproxy_evictions_total", reason="slow") == 1
    ended = {"outcome": "cancelled", "reason": "abandoned"}
    assert value(samples, "trioproxy_generations_total", **ended) == 1
    assert value(samples, "trioproxy_cancel_to_closed_seconds_count") == 1


KINDS = ("first", "late", "resume")


async def test_the_state_is_what_it_is_now() -> None:
    async with open_scene() as scene:
        gauges = Gauges(
            connections=lambda: 7,
            upstream_calls=lambda: 3,
            upstreams=lambda: [UpstreamFigures("a", 2, True, "open", {"timeout": 4}, 1)],
            kept_answers=lambda: (5, 6, 7),
        )
        scene.telemetry.metrics.observe(scene.hub, gauges)
        with scene.join(), scene.join():
            scene.arrive(token("a"))
            await wait_all_tasks_blocked()
            samples = samples_of(scene)
            held = scene.hub.held_bytes

    state = {
        "trioproxy_generations_running": 1,
        "trioproxy_generations_retained": 0,
        "trioproxy_subscribers": 2,
        "trioproxy_transcript_bytes": held,
        "trioproxy_open_connections": 7,
        "trioproxy_upstream_calls": 3,
        "trioproxy_cache_hits_total": 5,
        "trioproxy_cache_answers": 6,
        "trioproxy_cache_bytes": 7,
    }
    assert {name: value(samples, name) for name in state} == state
    of_upstreams = {
        ("requests_total", "a", "timeout"): 4,
        ("fallbacks_total", "a"): 1,
        ("running", "a"): 2,
        ("up", "a"): 1,
        ("breaker", "a", "closed"): 0,
        ("breaker", "a", "open"): 1,
        ("breaker", "a", "half-open"): 0,
    }
    found = {
        (name.removeprefix("trioproxy_upstream_"), *sorted(dict(labels).values())): number
        for (name, labels), number in samples.items()
        if labels and name.startswith("trioproxy_upstream_")
    }
    assert {name: found.get((name[0], *sorted(name[1:]))) for name in of_upstreams} == of_upstreams


async def test_models_are_bounded() -> None:
    async with open_scene() as scene:
        for number in range(MAX_MODELS + 10):
            source = ScriptedSource()
            source.complete()
            asked = Asked(model=f"model-{number}")
            with scene.hub.join(None, source, origin=asked) as subscriber:
                async for _ in subscriber:
                    pass
        samples = samples_of(scene)

    models = {dict(labels).get("gen_ai_request_model") for _, labels in samples} - {None}
    assert len(models) == MAX_MODELS + 1
    assert OTHER in models


async def test_a_heartbeat_is_counted_for_each_who_gets_it() -> None:
    async with open_scene() as scene:
        with scene.join() as subscriber:
            subscriber.generation.watch.beat(4)
        samples = samples_of(scene)

    assert value(samples, "trioproxy_heartbeats_total") == 4


def test_a_histogram_counts_each_value_in_its_bucket() -> None:
    histogram = Histogram((1.0, 2.0))
    for seconds, number in ((0.5, 1), (1.0, 2), (1.5, 3), (99.0, 4)):
        histogram.observe(seconds, number)

    assert histogram.cumulative == [("1.0", 3), ("2.0", 6), ("+Inf", 10)]
    assert histogram.sum == 0.5 + 2.0 + 4.5 + 396.0


async def test_a_loop_that_is_held_up_is_late(mock_clock: MockClock) -> None:
    lag = LoopLag()
    lag.histogram = Histogram((0.05, 0.5))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lag.measure)
        await wait_all_tasks_blocked()
        for seconds in (0.1, 0.1, 0.4):
            mock_clock.jump(seconds)
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert lag.histogram.counts == [2, 1, 0]
    assert lag.histogram.sum == pytest.approx(0.3)


async def test_the_lag_of_the_last_second_is_known_and_that_which_is_not_over(
    mock_clock: MockClock,
) -> None:
    lag = LoopLag()
    seen = [lag.recent]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lag.measure)
        await wait_all_tasks_blocked()
        mock_clock.jump(0.7)
        seen.append(lag.recent)  # the task that measures has not run yet
        await wait_all_tasks_blocked()
        seen.append(lag.recent)
        for _ in range(3):
            mock_clock.jump(0.1)
            await wait_all_tasks_blocked()
        seen.append(lag.recent)
        nursery.cancel_scope.cancel()
    mock_clock.jump(0.8)

    assert [*seen, lag.recent] == pytest.approx([0, 0.6, 0.6, 0.6, 0])
