"""A span for each generation."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AsyncExitStack

import pytest
import trio
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.rawhttp import open_client
from tests.telemetry.scenes import Asked, open_scene, token
from tests.telemetry.test_timing import read_on
from trioproxy.config import Settings
from trioproxy.serving import open_proxy
from trioproxy.telemetry import Telemetry
from trioproxy.telemetry.traces import Traces
from trioproxy.testing.upstream import open_upstream, sse

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=1"}


class Collected:
    """What was traced."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._provider = TracerProvider(shutdown_on_exit=False)
        self._provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.traces = Traces(self._provider.get_tracer("test"))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def close(self) -> None:
        self._provider.shutdown()


@pytest.fixture
def collected() -> Generator[Collected]:
    collected = Collected()
    yield collected
    collected.close()


def described(span: ReadableSpan) -> dict[str, object]:
    """The attributes, but for the generation's id."""
    attributes = dict(span.attributes or {})
    assert str(attributes.pop("trioproxy.generation.id")).startswith("gen_")
    return attributes


async def trace(
    collected: Collected, context: dict[str, str]
) -> tuple[ReadableSpan, dict[str, str]]:
    """The span of a call whose client sent this context, and the context that goes upstream."""
    async with open_scene(listeners=[collected.traces]) as scene:
        scene.asked = Asked(trace_context=dict(context))
        with scene.join():
            pass
    (span,) = collected.spans
    return span, scene.asked.trace_context


async def test_a_span_tells_of_one_generation(
    collected: Collected, autojump_clock: MockClock
) -> None:
    async with open_scene(listeners=[collected.traces]) as scene, trio.open_nursery() as nursery:
        await trio.sleep(0.25)
        async with AsyncExitStack() as stack:
            for _ in range(2):
                nursery.start_soon(read_on, stack.enter_context(scene.join()))
            await trio.sleep(0.5)
            scene.arrive(token("a"))
            await trio.sleep(1)
            scene.arrive(token("b"))
            assert collected.spans == []
            scene.source.complete()
            await wait_all_tasks_blocked()

    (span,) = collected.spans
    assert (span.name, span.kind) == ("text_completion tiny", SpanKind.CLIENT)
    assert span.parent is None
    assert span.status.status_code is StatusCode.UNSET
    assert described(span) == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "tiny",
        "gen_ai.response.time_to_first_chunk": pytest.approx(0.75),
        "gen_ai.usage.output_tokens": 2,
        "trioproxy.outcome": "completed",
        "trioproxy.subscribers": 2,
        "url.path": "/v1/completions",
    }


async def test_it_begins_with_the_request(collected: Collected, autojump_clock: MockClock) -> None:
    async with open_scene(listeners=[collected.traces]) as scene:
        await trio.sleep(60)
        with scene.join():
            pass

    (span,) = collected.spans
    assert span.start_time is not None
    assert span.end_time is not None
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(60, abs=1)


async def test_a_call_that_failed_is_an_error_and_one_that_was_left_is_none(
    collected: Collected, autojump_clock: MockClock
) -> None:
    async with open_scene(listeners=[collected.traces]) as scene:
        with scene.join() as subscriber:
            scene.source.end()
            await read_on(subscriber)
        with scene.join():
            pass

    failed, left = collected.spans
    assert described(failed)["error.type"] == "truncated"
    assert (failed.status.status_code, failed.status.description) == (
        StatusCode.ERROR,
        "truncated",
    )
    assert described(left)["error.type"] == "abandoned"
    assert left.status.status_code is StatusCode.UNSET


async def test_it_is_a_part_of_the_clients_trace(
    collected: Collected, autojump_clock: MockClock
) -> None:
    span, sent = await trace(collected, PARENT)

    context = span.get_span_context()
    assert context is not None
    assert span.parent is not None
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, SPAN)
    assert sent == {
        "traceparent": f"00-{TRACE}-{context.span_id:016x}-01",
        "tracestate": "vendor=1",
    }


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"tracestate": "vendor=1"},
        {"traceparent": "nonsense", "tracestate": "vendor=1"},
        {"traceparent": PARENT["traceparent"] + ", " + PARENT["traceparent"]},
    ],
)
async def test_a_context_that_makes_no_sense_is_replaced_by_a_new_trace(
    context: dict[str, str], collected: Collected, autojump_clock: MockClock
) -> None:
    span, sent = await trace(collected, context)

    told = span.get_span_context()
    assert told is not None
    assert span.parent is None
    assert sent.keys() == {"traceparent"}
    assert sent["traceparent"].startswith(f"00-{told.trace_id:032x}-{told.span_id:016x}-")


@pytest.mark.parametrize("is_traced", [False, True])
async def test_the_engine_is_told_whose_part_it_is(collected: Collected, is_traced: bool) -> None:
    """The client's span, where nobody traces; else the proxy's."""
    telemetry = Telemetry([collected.traces] if is_traced else [])
    settings = Settings(bind="127.0.0.1:0")
    async with (
        open_upstream() as upstream,
        open_proxy(settings, upstream_url=upstream.url, telemetry=telemetry) as proxy,
        open_client(proxy.binds[0]) as client,
    ):
        body = b'{"prompt":"a","stream":true}'
        await client.request("POST", "/v1/completions", headers=PARENT, body=body)
        call = await upstream.next_call()
        await call.start()
        await call.finish(sse(b"[DONE]"))
        await client.response_head()
        await client.body()

    sent = sorted(pair for pair in call.headers if pair[0].startswith(b"trace"))
    span_id = SPAN
    if is_traced:
        (span,) = collected.spans
        context = span.get_span_context()
        assert context is not None
        span_id = f"{context.span_id:016x}"
        assert span_id != SPAN
    assert sent == [
        (b"traceparent", f"00-{TRACE}-{span_id}-01".encode()),
        (b"tracestate", b"vendor=1"),
    ]
