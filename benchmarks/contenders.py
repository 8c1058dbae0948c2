"""The servers whose speed is measured, and how each is asked for a stream.

Beside the proxies of ``benchmarks.targets`` they are ones that are no proxies, such as a publisher
with a feeder, and the engine itself.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trustme

from benchmarks.peers import nchan
from benchmarks.processes import Process, run
from benchmarks.questions import Question, ask_over_http, ask_over_websocket
from benchmarks.targets import TARGETS, run_trioproxy


def _need_no_feeder(
    server: Process, engine: Process, question: Question
) -> AbstractContextManager[object]:
    return nullcontext()


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A server whose speed is measured.

    Attributes:
        name: what it is called on the command line and in tables.
        missing: why it cannot run on this machine; None where it can.
        launch: run it in front of the engine at this URL, for the length of a block.
        ask: what a client sends.
        feed: what brings it the answer, for the length of a block, where it does not ask for it.
    """

    name: str
    missing: Callable[[], str | None]
    launch: Callable[[str], AbstractContextManager[Process]]
    ask: Callable[[Question], bytes] = ask_over_http
    feed: Callable[[Process, Process, Question], AbstractContextManager[object]] = _need_no_feeder


@dataclass(frozen=True)
class Certificate:
    """Files (PEM) of a server at ``localhost``, and of who vouches for it."""

    chain: Path
    key: Path
    authority: Path


def make_certificate(directory: Path) -> Certificate:
    """Make a certificate, and write it into the directory."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    certificate = Certificate(
        *(directory / f"{name}.pem" for name in ("chain", "key", "authority"))
    )
    for pem in issued.cert_chain_pems:
        pem.write_to_path(certificate.chain, append=True)
    issued.private_key_pem.write_to_path(certificate.key)
    authority.cert_pem.write_to_path(certificate.authority)
    return certificate


def proxies(*names: str) -> dict[str, Contender]:
    """Targets of the storm, as contenders."""
    return {
        name: Contender(name=name, missing=TARGETS[name].missing, launch=TARGETS[name].launch)
        for name in names
    }


def fan_outs() -> dict[str, Contender]:
    """Who sends one stream to many over plain HTTP; the last is the limit."""
    hub = Contender(
        name="nchan", missing=nchan.missing, launch=nchan.launch, ask=nchan.ask, feed=nchan.feed
    )
    limit = Contender(
        name="loop",
        missing=lambda: None,
        launch=lambda url: run([url], module="benchmarks.peers.loop"),
    )
    return {**proxies("trioproxy", "quart"), hub.name: hub, limit.name: limit}


def tls_fan_outs(certificate: Certificate) -> dict[str, Contender]:
    """Who sends one stream to many over TLS."""
    chain, key = str(certificate.chain), str(certificate.key)
    return {
        "trioproxy": Contender(
            name="trioproxy",
            missing=lambda: None,
            launch=partial(run_trioproxy, options=("--certfile", chain, "--keyfile", key)),
        ),
        "quart": Contender(
            name="quart",
            missing=lambda: None,
            launch=lambda url: run([url, chain, key], module="benchmarks.peers.quart_app"),
        ),
    }


def websocket_fan_outs() -> dict[str, Contender]:
    """Who sends one stream to many over WebSocket."""
    return {
        name: Contender(
            name=name,
            missing=contender.missing,
            launch=contender.launch,
            ask=ask_over_websocket,
        )
        for name, contender in proxies("trioproxy", "quart").items()
    }


def engine_itself(engine: Process) -> Contender:
    """Who asks the engine, has no proxy at all."""
    return Contender(name="direct", missing=lambda: None, launch=lambda url: nullcontext(engine))
