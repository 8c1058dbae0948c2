"""The metrics of several processes as those of one: what they expose, summed.

Prometheus's text format (https://prometheus.io/docs/instrumenting/exposition_formats/), as
prometheus_client writes it: samples stand behind the ``# TYPE`` of their metric, without times.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from prometheus_client.utils import (
    floatToGoString,  # pyright: ignore[reportUnknownVariableType]
)

_CREATED = "_created"
"""How the name of a gauge ends that says since when something is counted: the earliest counts."""


@dataclass(slots=True)
class _Family:
    """A metric: the lines that describe it, and its samples by name and labels."""

    described: list[str]
    is_gauge: bool
    is_time: bool
    samples: dict[str, float] = field(default_factory=dict[str, float])


def sum_expositions(expositions: Iterable[bytes]) -> bytes:
    """All of them as one. Samples of the same name and labels are added; of such as tell since when
    something is counted, the earliest is kept."""
    total: dict[str, _Family] = {}
    for exposition in expositions:
        for name, family in _families(exposition):
            known = total.setdefault(name, family)
            if known is not family:
                _add(known, family)
    return _written(total.values())


def counted(exposition: bytes) -> bytes:
    """What remains of it when its process has ended: what was counted, and not what was as it
    was."""
    families = (family for _, family in _families(exposition))
    return _written(family for family in families if family.is_time or not family.is_gauge)


def _families(exposition: bytes) -> Iterator[tuple[str, _Family]]:
    family, described = None, list[str]()
    name = ""
    for line in exposition.decode().split("\n"):
        if line.startswith("# TYPE "):
            if family is not None:
                yield name, family
            _, _, name, kind = line.split(" ")
            is_gauge = kind == "gauge"
            family = _Family([*described, line], is_gauge, is_gauge and name.endswith(_CREATED))
            described = []
        elif line.startswith("#"):
            described.append(line)
        elif line and family is not None:
            sample, _, value = line.rpartition(" ")
            family.samples[sample] = float(value)
    if family is not None:
        yield name, family


def _add(known: _Family, other: _Family) -> None:
    samples = known.samples
    for sample, value in other.samples.items():
        if sample not in samples:
            samples[sample] = value
        elif known.is_time:
            samples[sample] = min(samples[sample], value)
        else:
            samples[sample] += value


def _written(families: Iterable[_Family]) -> bytes:
    lines: list[str] = []
    for family in families:
        lines += family.described
        lines += [f"{name} {floatToGoString(value)}" for name, value in family.samples.items()]
    return "".join(f"{line}\n" for line in lines).encode()
