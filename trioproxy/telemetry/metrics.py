"""What all generations have in common, as Prometheus metrics.

Names are those of OpenTelemetry's conventions for generative AI where they have one
(https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/), in Prometheus's spelling; the
rest begin with ``trioproxy_``. Every label has a bounded set of values.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client import Histogram as PrometheusHistogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from trioproxy.fanout import Hub
from trioproxy.telemetry.cluster import ClusterFigures, ClusterState, NodeStanding
from trioproxy.telemetry.gauges import Gauges, State
from trioproxy.telemetry.histogram import Histogram
from trioproxy.telemetry.lag import LoopLag
from trioproxy.telemetry.reader import Reader
from trioproxy.telemetry.timing import Listener, Timing
from trioproxy.telemetry.writer import LogWriter

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

MAX_MODELS = 100
"""So many models have labels of their own; to clients they are just strings."""

OTHER = "other"

TOKEN_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.5),
)
FIRST_TOKEN_SECONDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(30.0, 60.0, 120.0, 300.0, 600.0),
)
DURATION_SECONDS = (
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    *(160.0, 320.0, 640.0),
)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)
CLOSING_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

CALL = ("gen_ai_operation_name", "gen_ai_request_model", "gen_ai_provider_name")
ENDED_CALL = (*CALL, "error_type")


class Metrics(Listener):
    """What is counted. ``delivery_delay`` and ``loop_lag`` are for whoever measures them.
    ``gather`` is how those of all processes that serve together are had, where there are more."""

    def __init__(self) -> None:
        self.delivery_delay = Histogram()
        self.loop_lag = LoopLag()
        self.gather: Callable[[], Awaitable[bytes]] | None = None
        self._registry = CollectorRegistry()
        self._models: set[str] = set()
        self._first_token = self._histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From the request to the first event with text.",
            CALL,
            FIRST_TOKEN_SECONDS,
        )
        self._per_token = self._histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "For each event with text behind the first, in the mean of a generation.",
            CALL,
            TOKEN_SECONDS,
        )
        self._duration = self._histogram(
            "gen_ai_server_request_duration_seconds",
            "From the request to the generation's outcome.",
            ENDED_CALL,
            DURATION_SECONDS,
        )
        self._usage = self._histogram(
            "gen_ai_client_token_usage",
            "Tokens of a generation, as the engine told them; else, of output, its events with "
            "text.",
            (*CALL, "gen_ai_token_type"),
            TOKENS,
        )
        self._generations = self._counter(
            "generations", "Generations that have ended.", "outcome", "reason"
        )
        self._joins = self._counter("joins", "Readers that joined a generation.", "kind")
        self._evictions = self._counter("evictions", "Readers that were sent away.", "reason")
        self._saved = self._counter(
            "upstream_calls_saved", "Calls that were not made, as their readers joined another's."
        )
        self._heartbeats = self._counter("heartbeats", "Heartbeats to readers.")
        self._shed = self._counter(
            "shed", "What was refused as there was too much to do.", "reason"
        )
        self._rate_limited = self._counter(
            "rate_limited", "What was refused as one had, or asked for, too much.", "reason"
        )
        self._closing = self._histogram(
            "trioproxy_cancel_to_closed_seconds",
            "From a generation's cancellation to the end of its call.",
            (),
            CLOSING_SECONDS,
        )

    def observe(self, hub: Hub, gauges: Gauges) -> None:
        """Have these in the exposition too."""
        self._registry.register(State(hub, gauges, self.delivery_delay, self.loop_lag.histogram))

    def observe_cluster(
        self, figures: ClusterFigures, standing: Callable[[], NodeStanding]
    ) -> None:
        """Likewise, what a node of a cluster has done."""
        self._registry.register(ClusterState(figures, standing))

    def observe_log(self, log: LogWriter) -> None:
        """Likewise, what the log has dropped."""
        self._registry.register(_Dropped(log))

    def expose(self) -> bytes:
        """All of it, in Prometheus's text format."""
        return generate_latest(self._registry)

    # -- what is counted -------------------------------------------------------------------------

    def joined(self, timing: Timing, reader: Reader) -> None:
        if reader.joining == "node":
            return
        self._joins.labels(reader.joining).inc()
        if reader.joining == "late":
            self._saved.inc()

    def left(self, timing: Timing, reader: Reader) -> None:
        if reader.evicted is not None:
            self._evictions.labels(reader.evicted).inc()

    def beat(self, number: int) -> None:
        self._heartbeats.inc(number)

    def ended(self, timing: Timing) -> None:
        outcome = timing.generation.outcome
        assert outcome is not None
        if timing.generation.is_replica:
            return  # the node that made the call counts it
        self._generations.labels(outcome.kind, outcome.reason or "").inc()
        if timing.origin.is_replay:
            return  # of its speed the engine had no part
        call = (
            timing.origin.dialect.operation,
            self._model(timing),
            timing.origin.dialect.provider,
        )
        error = "" if outcome.kind == "completed" else outcome.reason or outcome.kind
        self._duration.labels(*call, error).observe(timing.duration)
        if timing.ttft is not None:
            self._first_token.labels(*call).observe(timing.ttft)
        if timing.time_per_token is not None:
            self._per_token.labels(*call).observe(timing.time_per_token)
        for kind, tokens in (("input", timing.input_tokens), ("output", timing.output_tokens)):
            if tokens is not None:
                self._usage.labels(*call, kind).observe(tokens)

    def shed(self, reason: str) -> None:
        """Something new was refused, for all have too much of ``reason``."""
        self._shed.labels(reason).inc()

    def rate_limited(self, reason: str) -> None:
        """Something was refused, for its tenant or client has too much of ``reason``."""
        self._rate_limited.labels(reason).inc()

    def closed(self, timing: Timing) -> None:
        if timing.cancel_to_closed is not None and not timing.generation.is_replica:
            self._closing.observe(timing.cancel_to_closed)

    def _model(self, timing: Timing) -> str:
        model = timing.origin.model or ""
        if model not in self._models and len(self._models) >= MAX_MODELS:
            return OTHER
        self._models.add(model)
        return model

    def _histogram(
        self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> PrometheusHistogram:
        return PrometheusHistogram(name, text, labels, buckets=buckets, registry=self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"trioproxy_{name}", text, labels, registry=self._registry)


class _Dropped(Collector):
    """What the log has dropped."""

    def __init__(self, log: LogWriter) -> None:
        self._log = log

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "trioproxy_log_lines_dropped",
            "Lines of the log that were not written, as nobody took them.",
            self._log.dropped,
        )
