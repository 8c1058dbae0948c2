"""Options that benchmarks have in common, and what values they may have.

``argparse`` tells what is wrong with the others, and exits with 2.
"""

from __future__ import annotations

import argparse
import math
import resource
from collections.abc import Callable, Collection
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
SPARE_DESCRIPTORS = 200


def names(known: Collection[str]) -> Callable[[str], list[str]]:
    """What reads ``all`` or a list of known names, with commas between, each once."""

    def read(text: str) -> list[str]:
        chosen = list(known) if text == "all" else text.split(",")
        if unknown := [name for name in chosen if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
        return list(dict.fromkeys(chosen))

    return read


def at_least(kind: type[int] | type[float], least: float) -> Callable[[str], float]:
    """What reads a finite number that is not less."""

    def number(text: str) -> float:
        value = kind(text)
        if not (math.isfinite(value) and value >= least):
            raise argparse.ArgumentTypeError(f"must be {least:g} or more")
        return value

    return number


def max_clients(descriptors_each: int) -> int:
    """How many clients fit here, each of which takes so many of a server's file descriptors."""
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (descriptors - SPARE_DESCRIPTORS) // descriptors_each


def clients(descriptors_each: int) -> Callable[[str], float]:
    """What reads a number of clients that fit here; see :func:`max_clients`."""
    positive = at_least(int, 1)

    def number(text: str) -> float:
        if (value := positive(text)) > (most := max_clients(descriptors_each)):
            raise argparse.ArgumentTypeError(f"no more than {most:,} fit here")
        return value

    return number


def make_parser(name: str, description: str, targets: Collection[str]) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has; ``target`` is all of them unless said."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--target",
        type=names(targets),
        default=",".join(targets),
        help=f"all, or some of {', '.join(targets)}",
    )
    parser.add_argument(
        "--rounds", type=at_least(int, 1), default=5, help="of each target, in turns; medians count"
    )
    parser.add_argument(
        "--seconds", type=at_least(float, 0.1), default=8.0, help="length of the window"
    )
    parser.add_argument(
        "--settle",
        type=at_least(float, 0),
        default=1.0,
        help="seconds from when all clients are there to the window",
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="directory for the results")
    return parser
