"""A Redis Cluster: some servers, each a process of the test's own, of which each has some slots."""

from __future__ import annotations

import socket
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager

from tests.cluster.servers import Server, free_port, run_server
from trioproxy.cluster.keys import SLOTS, slot_of

READY_WITHIN = 20.0
LANES = 4


class RedisCluster:
    """``primaries`` in the order of their slots."""

    def __init__(self, primaries: Sequence[Server], buses: Sequence[int]) -> None:
        self.primaries = list(primaries)
        self._buses = dict(zip(primaries, buses, strict=True))

    @property
    def url(self) -> str:
        """As who knows one of its servers only, beside one that is none."""
        return f"redis://127.0.0.1:1,127.0.0.1:{self.primaries[-1].port}?cluster={LANES}"

    def primary_of(self, lane: int) -> Server:
        """The server that had the lane first."""
        return self.primaries[slot_of(lane) * len(self.primaries) // SLOTS]

    def empty(self) -> None:
        for server in self.primaries:
            ask(server, "CONFIG SET maxmemory 0")
            ask(server, "FLUSHALL")

    def name_of(self, server: Server) -> str:
        return ask(server, "CLUSTER MYID").split()[1]

    def create(self) -> None:
        """Return when all know each other, and that all slots are served."""
        number = len(self.primaries)
        for index, server in enumerate(self.primaries):
            ask(server, f"CLUSTER SET-CONFIG-EPOCH {index + 1}")
            first, last = -(-SLOTS * index // number), -(-SLOTS * (index + 1) // number) - 1
            ask(server, f"CLUSTER ADDSLOTSRANGE {first} {last}")
        for server in self.primaries:
            self.introduce(server)
        for server in self.primaries:
            until(server, "CLUSTER INFO", "cluster_state:ok", f"cluster_known_nodes:{number}")

    def introduce(self, server: Server) -> None:
        """Have the others meet it."""
        for other in self.primaries:
            if other is not server:
                ask(other, f"CLUSTER MEET 127.0.0.1 {server.port} {self._buses[server]}")

    def add_replica(self, server: Server, bus: int, primary: Server) -> None:
        """Return when it has what the primary has, and all know of it."""
        self._buses[server] = bus
        self.introduce(server)
        name = self.name_of(primary)
        until(server, "CLUSTER NODES", name)
        until(server, f"CLUSTER REPLICATE {name}", "OK")
        until(server, "INFO replication", "master_link_status:up")
        # who does not know what its primary has takes nothing over
        until(server, "CLUSTER SLOTS", *(f":{each.port}" for each in self.primaries))
        for each in self.primaries:
            until(each, "CLUSTER SLOTS", f":{server.port}")


@contextmanager
def run_cluster(family: str, number: int = 3) -> Generator[RedisCluster]:
    """One of so many primaries, or skip the test where the family is not installed."""
    with ExitStack() as stack:
        buses = [free_port() for _ in range(number)]
        servers = [stack.enter_context(run_member(family, bus)) for bus in buses]
        cluster = RedisCluster(servers, buses)
        cluster.create()
        yield cluster


@contextmanager
def run_member(family: str, bus: int) -> Generator[Server]:
    """A server that is of no cluster yet. What it does not serve others may."""
    options = {
        "cluster-enabled": "yes",
        "cluster-port": str(bus),
        "cluster-node-timeout": "1000",
        "cluster-require-full-coverage": "no",
        "repl-diskless-sync-delay": "0",
    }
    given = [word for name, value in options.items() for word in (f"--{name}", value)]
    with run_server(family, *given) as server:
        yield server


def ask(server: Server, command: str) -> str:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as stream:
        stream.sendall(command.encode() + b"\r\n")
        return stream.recv(65536).decode()


def until(server: Server, command: str, *told: str) -> None:
    """Ask until all of this is told."""
    ends_at = time.monotonic() + READY_WITHIN
    while not all(words in (reply := ask(server, command)) for words in told):
        assert time.monotonic() < ends_at, reply
        time.sleep(0.02)
