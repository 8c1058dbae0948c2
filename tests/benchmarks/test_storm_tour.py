"""The order of the rounds, and what becomes of a target that does not let go or does not answer."""

import os
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.processes import Process
from benchmarks.storm import tour as tour_module
from benchmarks.storm.engine import Closing
from benchmarks.storm.measurement import Failure, Round, Storm
from benchmarks.storm.patterns import PATTERNS, Pattern
from benchmarks.storm.summary import Results
from benchmarks.storm.tour import tour
from benchmarks.targets import Running, Target
from tests.benchmarks.rounds import round_with

STORM = Storm(clients=4, generations=1, rate=10, seconds=1, seed=0)
NEVER_CLOSED = Closing(1, (), 1)


class Answering(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


class Tour:
    """A tour of two targets, whose rounds come to what ``outcomes`` says for their number.

    ``record`` has every start and end of a target, and every round.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, port: int) -> None:
        self.record: list[str] = []
        self.outcomes: dict[tuple[str, int], Closing | OSError] = {}
        self.dead: set[str] = set()
        self.results = Results()
        self._port = port
        monkeypatch.setattr(tour_module, "measure", self._measure)

    def run(self, *patterns: str, rounds: int) -> None:
        tour(
            STORM,
            [PATTERNS[name] for name in patterns],
            [self._target("trioproxy", resumes=True), self._target("nginx", resumes=False)],
            rounds,
            Process(os.getpid(), "127.0.0.1", 1),
            announce=lambda pattern, target, number: None,
            results=self.results,
        )

    def _target(self, name: str, *, resumes: bool) -> Target:
        @contextmanager
        def launch(engine_url: str) -> Generator[Process]:
            self.record.append(f"start {name}")
            yield Process(os.getpid(), "127.0.0.1", self._port)
            self.record.append(f"end {name}")
            if name in self.dead:
                self.dead.remove(name)
                raise RuntimeError(f"{name} ended by itself")

        return Target(
            name,
            shares=True,
            resumes=resumes,
            has_census=False,
            missing=lambda: None,
            launch=launch,
        )

    def _measure(
        self,
        storm: Storm,
        pattern: Pattern,
        target: Target,
        running: Running,
        engine: Process,
        number: int,
    ) -> Round:
        self.record.append(f"{pattern.name} {number} {target.name}")
        outcome = self.outcomes.get((target.name, number), Closing(1, (0.1,), 0))
        if isinstance(outcome, OSError):
            raise outcome
        return round_with(closing=outcome)


@pytest.fixture
def a_tour(monkeypatch: pytest.MonkeyPatch, port: int) -> Tour:
    return Tour(monkeypatch, port)


def test_rounds_are_interleaved_and_targets_run_through_a_pattern(a_tour: Tour) -> None:
    a_tour.run("reset", rounds=2)

    assert a_tour.record == [
        *("start trioproxy", "start nginx"),
        *("reset 0 trioproxy", "reset 0 nginx", "reset 1 trioproxy", "reset 1 nginx"),
        *("end nginx", "end trioproxy"),
    ]
    assert len(a_tour.results.rounds) == 4


def test_a_target_that_cannot_resume_is_not_asked_to(a_tour: Tour) -> None:
    a_tour.run("flap", rounds=1)

    assert a_tour.record == ["start trioproxy", "flap 0 trioproxy", "end trioproxy"]


def test_a_target_that_left_calls_open_is_started_anew(a_tour: Tour) -> None:
    a_tour.outcomes["nginx", 0] = NEVER_CLOSED

    a_tour.run("reset", rounds=1)

    assert a_tour.record[-5:] == [
        *("reset 0 nginx", "end nginx", "start nginx"),
        *("end nginx", "end trioproxy"),
    ]


def test_a_target_that_does_not_answer_fails_its_round_and_is_started_anew(a_tour: Tour) -> None:
    a_tour.outcomes["trioproxy", 0] = TimeoutError("timed out")

    a_tour.run("reset", rounds=2)

    assert a_tour.results.failures == [Failure("reset", "trioproxy", 0, "timed out")]
    assert len(a_tour.results.rounds) == 3
    assert a_tour.record.count("start trioproxy") == 2


def test_a_target_that_ended_by_itself_is_told_to_have(a_tour: Tour) -> None:
    a_tour.outcomes["nginx", 0] = ConnectionRefusedError("refused")
    a_tour.dead.add("nginx")

    a_tour.run("reset", rounds=1)

    assert a_tour.results.failures == [Failure("reset", "nginx", 0, "nginx ended by itself")]
