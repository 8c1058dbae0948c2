"""Brokers behind TLS, and those that Sentinels know."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import trio
import trustme

from tests.cluster.brokers import LONG, REF, batch, log_of, own, publish
from tests.cluster.servers import FAMILIES, Server, command_of, free_port, run_sentinel, run_server
from trioproxy.cluster import Batch, Broker, BrokerDown, Lease, Ref
from trioproxy.cluster.redis import open_redis_broker

WITHIN = 20.0


async def test_a_broker_behind_tls_is_verified(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "server.pem")
    )
    authority.issue_cert("node@example.org").private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "node.pem")
    )
    port = free_port()
    options = ["--tls-port", str(port), "--tls-ca-cert-file", str(tmp_path / "ca.pem")]
    for option in ("--tls-cert-file", "--tls-key-file"):
        options += [option, str(tmp_path / "server.pem")]
    _skip_without_tls(options)
    at = f"rediss://127.0.0.1:{port}?ca={tmp_path / 'ca.pem'}"
    with run_server("redis", *options):
        async with open_redis_broker(f"{at}&cert={tmp_path / 'node.pem'}", "one") as broker:
            await _works(broker)
        for url in (at, f"rediss://127.0.0.1:{port}"):  # no certificate of ours; none of theirs
            async with open_redis_broker(url, "one") as broker:
                with trio.move_on_after(0.5):
                    await broker.wait_up()
                assert broker.up_since is None


def _skip_without_tls(options: list[str]) -> None:
    help_text = subprocess.run(
        [*command_of("redis"), "--port", "0", *options, "--loglevel", "bad"],
        capture_output=True,
        text=True,
        timeout=WITHIN,
    )
    if "Bad directive" in help_text.stderr + help_text.stdout:
        pytest.skip("redis-server is built without TLS")


@pytest.mark.parametrize("family", FAMILIES)
async def test_the_primary_that_sentinels_name_is_followed(family: str, tmp_path: Path) -> None:
    with run_server(family) as primary, run_server(family) as replica:
        await _make_replica(replica, primary)
        with run_sentinel(family, tmp_path, primary) as sentinel:
            url = f"redis://127.0.0.1:1,127.0.0.1:{sentinel.port}?sentinel=main"
            async with open_redis_broker(url, "one", LONG) as broker:
                lease = await _works(broker)
                await _wait_for_replica(sentinel, primary)
                primary.kill()

                ref = Ref("cd34", "gen")
                with trio.fail_after(WITHIN):
                    while True:
                        try:
                            await broker.elect(ref, b"about")
                            break
                        except BrokerDown:
                            await trio.sleep(0.05)

                await publish(broker, lease, Batch(4, batch(4, 5).messages), after=3)
                await _until_read(broker)


async def _works(broker: Broker) -> Lease:
    with trio.fail_after(WITHIN):
        await broker.wait_up()
    lease = await own(broker)
    await publish(broker, lease, batch(1, 3), after=0)
    await _until_read(broker)
    return lease


async def _until_read(broker: Broker) -> None:
    with trio.fail_after(WITHIN):
        while True:
            try:
                cursor, _ = await log_of(broker, REF)
                assert cursor.seq >= 3
                return
            except BrokerDown:  # the reader is on its way
                await trio.sleep(0.05)


async def _ask(server: Server, command: str) -> bytes:
    async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
        await stream.send_all(command.encode() + b"\r\n")
        with trio.fail_after(WITHIN):
            return await stream.receive_some()


async def _make_replica(replica: Server, primary: Server) -> None:
    await _ask(replica, f"REPLICAOF 127.0.0.1 {primary.port}")


async def _wait_for_replica(sentinel: Server, primary: Server) -> None:
    """Wait until the Sentinel knows the replica, and it has what the primary has."""
    await _until(sentinel, "INFO sentinel", b"slaves=1")
    await _until(primary, "INFO replication", b"state=online")
    await _ask(primary, "WAIT 1 5000")


async def _until(server: Server, command: str, says: bytes) -> None:
    with trio.fail_after(WITHIN):
        while True:
            if says in await _ask(server, command):
                return
            await trio.sleep(0.05)
