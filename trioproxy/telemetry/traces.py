"""A span for each generation, for OpenTelemetry: needs the extra ``otel``.

It begins with the request and ends with the outcome. The trace is the client's, if its request had
a ``traceparent``, and the engine is told to be a part of it (W3C Trace Context,
https://www.w3.org/TR/trace-context/). Names are those of the conventions for generative AI
(https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/). Prompts and answers are not in
it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from trioproxy import __version__
from trioproxy.fanout import grace
from trioproxy.telemetry.timing import Listener, Timing

FLUSH_SECONDS = 2.0
"""What is left at the end has so long to reach the collector."""

_context = TraceContextTextMapPropagator()


@asynccontextmanager
async def open_traces() -> AsyncGenerator[Listener]:
    """What makes the spans, and sends them, in a thread of their own and many at once, to where
    OpenTelemetry's environment variables say (``OTEL_EXPORTER_OTLP_ENDPOINT`` and its like;
    http://localhost:4318 without any).

    On exit what is left is sent, for :data:`FLUSH_SECONDS` at most, whatever ends the block.
    """
    # It would repeat, for each request, what a client wrote into headers that make no sense.
    logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)
    named = Resource({SERVICE_NAME: "trioproxy"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=Resource.create().merge(named), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield Traces(provider.get_tracer("trioproxy", __version__))
    finally:
        with grace(FLUSH_SECONDS):
            await trio.to_thread.run_sync(  # noqa: ASYNC102 - grace is such a scope
                provider.shutdown, abandon_on_cancel=True
            )


class Traces(Listener):
    """Makes the spans, with a ``tracer``. A replica has none: its call is another node's."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._spans: dict[Timing, Span] = {}

    def started(self, timing: Timing) -> None:
        origin, generation = timing.origin, timing.generation
        if generation.is_replica:
            return
        operation = origin.dialect.operation
        span = self._tracer.start_span(
            f"{operation} {origin.model}" if origin.model else operation,
            context=_context.extract(origin.trace_context),
            kind=SpanKind.CLIENT,
            start_time=time.time_ns() - round((timing.created_at - timing.accepted_at) * 1e9),
            attributes={
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": origin.dialect.provider,
                "trioproxy.generation.id": generation.id,
                "url.path": origin.path,
            },
        )
        if origin.model:
            span.set_attribute("gen_ai.request.model", origin.model)
        context: dict[str, str] = {}
        _context.inject(context, set_span_in_context(span))
        if context:  # else tracing is switched off, and the client's goes on
            origin.trace_context.clear()
            origin.trace_context.update(context)
        self._spans[timing] = span

    def ended(self, timing: Timing) -> None:
        span, outcome = self._spans.pop(timing, None), timing.generation.outcome
        if span is None:
            return
        assert outcome is not None
        attributes = {
            "gen_ai.response.id": timing.origin.tally.answer_id,
            "gen_ai.response.time_to_first_chunk": timing.ttft,
            "gen_ai.usage.input_tokens": timing.input_tokens,
            "gen_ai.usage.output_tokens": timing.output_tokens,
            "trioproxy.outcome": outcome.kind,
            "trioproxy.subscribers": timing.joins,
        }
        span.set_attributes(
            {name: value for name, value in attributes.items() if value is not None}
        )
        if outcome.kind != "completed":
            span.set_attribute("error.type", outcome.reason or outcome.kind)
        if outcome.kind == "failed":
            span.set_status(StatusCode.ERROR, outcome.reason)
        span.end()
