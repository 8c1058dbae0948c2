"""What readers that stop reading cost those that go on.

    python -m benchmarks.stuck [--readers 100] [--stuck 10] [--rate 200] [--seconds 5] [--rounds 10]

Rounds with and without the stuck readers alternate. For every healthy reader and every event the
delivery delay is its arrival less the moment at which the engine's schedule (one token every
``1 / rate`` seconds) had it due; a round's figure is the 99th percentile over all of them, from
the moment all readers are connected. The stuck ones connect first, stop reading at once, and are
gone after the write timeout, in the middle of the round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib import pyplot
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.answers import understand
from benchmarks.processes import Process, run
from benchmarks.readers import Loop, Reader, StuckReader, request

RESULTS = Path(__file__).parent / "results"
MAX_GROWTH_MS = 5.0
SETTLE_SECONDS = 0.25
NANOSECONDS = 1e9
EXTRA_EVENTS = 3
"""Beside its tokens an answer has an event for the role, before them, one for the reason of its
end, and [DONE]."""


@dataclass(frozen=True)
class Round:
    """One round. Delays in milliseconds; ``finish_late_ms`` is how late the last token came."""

    stuck: int
    p50_ms: float
    p99_ms: float
    finish_late_ms: float
    lost: int
    proxy_cpu_s: float
    stuck_left: int


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--readers", type=int, default=100)
    parser.add_argument("--stuck", type=int, default=10)
    parser.add_argument("--rate", type=float, default=200.0, help="tokens per second")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a round")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--write-timeout", type=float, default=2.0)
    options = parser.parse_args()

    serve = ["serve", "--bind", "127.0.0.1:0", "--debug"]
    serve += ["--write-timeout", str(options.write_timeout), "--drain", "1"]
    with (
        run(["simulate", "--bind", "127.0.0.1:0", "--rate", str(options.rate)]) as engine,
        run([*serve, "--upstream", engine.url]) as proxy,
    ):
        _measure(proxy, options, number=-1, stuck=0)  # warm-up, not counted
        rounds = [
            _measure(proxy, options, number, stuck)
            for number in track(range(options.rounds), "rounds")
            for stuck in (0, options.stuck)
        ]
    return _report(rounds, options)


def _measure(proxy: Process, options: argparse.Namespace, number: int, stuck: int) -> Round:
    tokens = int(options.rate * options.seconds)
    data = request(f"round {number} with {stuck}", tokens, {"X-Fanout": "replay"})
    stopped = [StuckReader(data) for _ in range(stuck)]
    readers = [Reader(data) for _ in range(options.readers)]
    cpu = proxy.cpu_seconds()
    with Loop() as loop:
        for reader in (*stopped, *readers):
            loop.connect(reader, proxy.host, proxy.port)
        deadline = time.monotonic() + 3 * options.seconds + 30
        if not loop.run(lambda: all(reader.has_ended for reader in readers), deadline):
            raise TimeoutError("not all readers have come to their end")
        cpu = proxy.cpu_seconds() - cpu
        stuck_left = _wait_for_stuck(proxy, options.write_timeout) if stuck else 0
    return _evaluate(readers, tokens, options.rate, stuck, cpu, stuck_left)


def _evaluate(
    readers: list[Reader], tokens: int, rate: float, stuck: int, cpu: float, stuck_left: int
) -> Round:
    seqs: list[list[int | None]] = []
    arrivals: list[list[tuple[int, float]]] = []  # of each reader: a token's number, and seconds
    for reader in readers:
        events = understand(reader.pieces).events
        seqs.append([event.seq for event in events])
        arrivals.append(
            [(token, event.at / NANOSECONDS) for token, event in enumerate(events[1:-2], 1)]
        )
    # The engine keeps an absolute schedule, so the earliest arrival of all, less its place in the
    # schedule, is when the schedule began (to within the fastest delivery that was seen).
    began = min(now - token / rate for own in arrivals for token, now in own)
    # From the moment all are connected: connecting costs the proxy more than delivering does, and
    # what was due before a reader was there was replayed to it, not delivered late.
    settled = max(own[0][1] for own in arrivals) + SETTLE_SECONDS
    delays = sorted(
        (now - due) * 1000
        for own in arrivals
        for token, now in own
        if (due := began + token / rate) > settled
    )
    last = max(own[-1][1] for own in arrivals)
    return Round(
        stuck=stuck,
        p50_ms=delays[len(delays) // 2],
        p99_ms=delays[len(delays) * 99 // 100],
        finish_late_ms=(last - began - tokens / rate) * 1000,
        lost=sum(own != list(range(1, tokens + EXTRA_EVENTS + 1)) for own in seqs),
        proxy_cpu_s=cpu,
        stuck_left=stuck_left,
    )


def _wait_for_stuck(proxy: Process, write_timeout: float) -> int:
    """Subscribers that are left once the stuck ones have had their time."""
    deadline = time.monotonic() + write_timeout + 2
    while True:
        with urllib.request.urlopen(f"{proxy.url}/debug/census") as response:
            left = json.load(response)["subscribers"]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def _report(rounds: list[Round], options: argparse.Namespace) -> int:
    table = Table("stuck readers", "p50 ms", "p99 ms", "last token late ms", "lost", "proxy CPU s")
    medians: dict[int, float] = {}
    for stuck in sorted({round_.stuck for round_ in rounds}):
        group = [round_ for round_ in rounds if round_.stuck == stuck]
        medians[stuck] = statistics.median(round_.p99_ms for round_ in group)
        table.add_row(
            str(stuck),
            *(
                f"{statistics.median(getattr(round_, name) for round_ in group):.2f}"
                for name in ("p50_ms", "p99_ms", "finish_late_ms", "lost", "proxy_cpu_s")
            ),
        )
    growth = medians[options.stuck] - medians[0]
    left = sum(round_.stuck_left for round_ in rounds)
    lost = sum(round_.lost for round_ in rounds)
    console = Console()
    console.print(table)
    console.print(f"median p99 grows by {growth:+.2f} ms; {left} stuck readers left; {lost} lost")
    RESULTS.mkdir(exist_ok=True)
    results = {"options": vars(options), "rounds": [asdict(round_) for round_ in rounds]}
    RESULTS.joinpath("stuck.json").write_text(json.dumps(results, indent=1))
    _plot(rounds, options)
    console.print(f"written to {RESULTS.joinpath('stuck.json')} and stuck.png")
    return 1 if growth > MAX_GROWTH_MS or left or lost else 0


def _plot(rounds: list[Round], options: argparse.Namespace) -> None:
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for stuck, marker in ((0, "o"), (options.stuck, "x")):
        p99 = [round_.p99_ms for round_ in rounds if round_.stuck == stuck]
        (marks,) = axes.plot(range(1, len(p99) + 1), p99, marker, label=f"{stuck} stuck")
        axes.axhline(statistics.median(p99), color=marks.get_color(), linewidth=1)
    axes.set(
        title=f"{options.readers} healthy readers at {options.rate:.0f} tokens/s, and who is stuck",
        xlabel="round",
        ylabel="p99 delivery delay, ms (lines: medians)",
        ylim=(0, None),
    )
    axes.legend()
    figure.savefig(RESULTS / "stuck.png", dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
