"""The metrics of several processes as those of one."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from trioproxy.telemetry import Metrics, counted, sum_expositions

LABEL = 'odd "value" \\ {a="b"} 1\nand # TYPE more'


class Process:
    """One that counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter("calls", "Calls.", ["kind"], registry=self.registry)
        self.open = Gauge("open", "Now.", registry=self.registry)
        self.seconds = Histogram(
            "seconds", "Time.", ["kind"], buckets=(0.1, 1.0), registry=self.registry
        )

    def expose(self) -> bytes:
        return generate_latest(self.registry)


def samples(exposition: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What Prometheus would read in it; each sample must be there once."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(exposition.decode()):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    return found


def test_samples_of_one_name_and_labels_are_added() -> None:
    one, other = Process(), Process()
    one.calls.labels(LABEL).inc(3)
    other.calls.labels(LABEL).inc(4)
    other.calls.labels("theirs").inc()
    one.open.set(2)
    other.open.set(0.5)
    one.seconds.labels("a").observe(0.05)
    other.seconds.labels("a").observe(0.5)
    other.seconds.labels("b").observe(5)

    total = sum_expositions([one.expose(), other.expose()])

    found = samples(total)
    kind = frozenset({("kind", LABEL)})
    assert found["calls_total", kind] == 7
    assert found["calls_total", frozenset({("kind", "theirs")})] == 1
    assert found["open", frozenset()] == 2.5
    buckets = [
        found["seconds_bucket", frozenset({("kind", "a"), ("le", bound)})]
        for bound in ("0.1", "1.0", "+Inf")
    ]
    assert buckets == [1, 2, 2]
    assert found["seconds_sum", frozenset({("kind", "a")})] == 0.55
    assert found["seconds_count", frozenset({("kind", "b")})] == 1


def test_since_when_something_is_counted_is_since_the_first() -> None:
    one, other = Process(), Process()
    for process in (one, other):
        process.calls.labels("a").inc()

    total = samples(sum_expositions([other.expose(), one.expose()]))

    key = "calls_created", frozenset({("kind", "a")})
    assert total[key] == min(samples(each.expose())[key] for each in (one, other))


def test_of_one_that_has_ended_remains_what_it_counted() -> None:
    process = Process()
    process.calls.labels("a").inc(3)
    process.open.set(2)
    process.seconds.labels("a").observe(0.5)

    names = {name for name, _ in samples(counted(process.expose()))}

    assert {"calls_total", "seconds_bucket", "seconds_sum", "seconds_count"} < names
    assert "open" not in names


def test_one_alone_is_as_it_was() -> None:
    metrics = Metrics()
    metrics.shed("generations")
    exposed = metrics.expose()

    assert sum_expositions([exposed]) == exposed
    assert sum_expositions([b"", exposed, b""]) == exposed
    assert sum_expositions([]) == b""
