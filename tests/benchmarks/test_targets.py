"""The proxies that are measured: started, looked at, and gone at the end of their block."""

import http.client
import json
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import processes
from benchmarks.processes import Process, free_port, run, run_program
from benchmarks.sampling import Sample
from benchmarks.targets import TARGETS, Running
from trioproxy.simulator import generate_text

CHAT = "/v1/chat/completions"

STUBBORN = """
import os, signal, socket, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    time.sleep(600)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(600)
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Process]:
    with run(["simulate", "--bind", "127.0.0.1:0", "--rate", "200"]) as engine:
        yield engine


def ask(running: Running, prompt: str, tokens: int) -> http.client.HTTPResponse:
    """Ask for a stream; the caller closes the response, and with it the connection."""
    body = {
        "model": "simulated",
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "stream": True,
    }
    headers = {"content-type": "application/json", "connection": "close"}
    client = http.client.HTTPConnection(running.host, running.port, timeout=10)
    client.request("POST", CHAT, json.dumps(body), headers)
    return client.getresponse()


def text_of(stream: bytes) -> str:
    chunks = [line[6:] for line in stream.split(b"\n") if line.startswith(b"data: {")]
    deltas = [json.loads(chunk)["choices"][0]["delta"] for chunk in chunks]
    return "".join(delta.get("content") or "" for delta in deltas)


def outcomes(engine: Process, prompt: str) -> list[str]:
    with urllib.request.urlopen(f"{engine.url}/calls") as response:
        return [call["outcome"] for call in json.load(response) if call["prompt"] == prompt]


def test_the_targets_are_those_that_are_compared() -> None:
    assert list(TARGETS) == ["trioproxy", "quart", "starlette", "nginx", "litellm"]
    assert [name for name, target in TARGETS.items() if target.shares] == ["trioproxy", "quart"]
    assert [name for name, target in TARGETS.items() if target.resumes] == ["trioproxy"]


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_streams_closes_abandoned_calls_and_leaves_nothing(
    name: str, engine: Process
) -> None:
    target = TARGETS[name]
    if reason := target.missing():
        pytest.skip(reason)
    with target.open(engine.url) as running:
        with ask(running, f"{name} reads", 20) as response:
            text = text_of(response.read())
        baseline = running.sample()
        with ask(running, f"{name} leaves", 100_000) as response:
            response.readline()
            during = running.sample()
        before = min(baseline.fds, during.fds - 1)  # the first reader's may have been open still
        after = running.wait_quiet(replace(baseline, fds=before), 5)
        pids = running.pids

    assert "".join(generate_text(f"{name} reads", 20)) == text
    assert outcomes(engine, f"{name} leaves") == ["aborted"]
    assert during.fds > after.fds
    assert after.above(baseline) == {}
    assert target.has_census == (during.subscribers == 1)
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


def samples_of(*fds: int) -> Iterator[Sample]:
    for count in fds:
        yield Sample(at=0.0, fds=count, rss_bytes=0, cpu_seconds=0.0)


@pytest.mark.parametrize(
    ("seen", "seconds", "last"), [((9, 8, 7, 6), 10.0, 7), ((5,), 10.0, 5), ((9, 7), 0.0, 9)]
)
def test_waiting_for_quiet_ends_with_it_or_with_the_time(
    seen: tuple[int, ...], seconds: float, last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Running(Process(os.getpid(), "127.0.0.1", 1), has_census=False)
    samples = samples_of(*seen)
    monkeypatch.setattr(running, "sample", lambda: next(samples))

    quiet = running.wait_quiet(next(samples_of(7)), seconds)

    assert last == quiet.fds


@pytest.mark.parametrize("name", ["nginx", "litellm"])
def test_a_program_that_is_not_installed_is_missing(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("LITELLM", raising=False)

    reason = TARGETS[name].missing()

    assert reason is not None
    assert name in reason


def test_litellm_may_be_named_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command = tmp_path / "elsewhere"
    command.touch(mode=0o755)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("LITELLM", str(command))

    assert TARGETS["litellm"].missing() is None


def test_a_server_that_announces_no_address_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no address"), run(["--version"]):
        pass


def test_a_server_that_ends_by_itself_is_an_error() -> None:
    def run_and_end() -> None:
        with run(["simulate", "--bind", "127.0.0.1:0"]) as engine:
            os.kill(engine.pid, signal.SIGTERM)
            _wait_dead(engine.pid)

    with pytest.raises(RuntimeError, match="ended by itself"):
        run_and_end()


def test_a_program_that_never_listens_is_an_error_with_its_last_words() -> None:
    program = [sys.executable, "-c", "import sys; sys.exit('no licence')"]

    with pytest.raises(RuntimeError, match="no licence"), run_program(program, free_port()):
        pass


def test_a_program_that_will_not_end_is_killed_with_its_children(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "EXIT_SECONDS", 0.1)
    port = free_port()

    with run_program([sys.executable, "-c", STUBBORN, str(port)], port) as stubborn:
        pids = stubborn.pids

    assert len(pids) == 2
    assert not Path(f"/proc/{pids[0]}").exists()
    _wait_dead(pids[1])


def _wait_dead(pid: int) -> None:
    """Wait until the process is gone, or a zombie (proc(5), stat: the third field)."""
    deadline = time.monotonic() + 5
    stat = Path(f"/proc/{pid}/stat")
    while stat.exists() and not stat.read_text().rpartition(")")[2].startswith(" Z"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
