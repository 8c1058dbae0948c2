"""What falls on a scene between two steps, and what clients may come to see of it."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable
from dataclasses import dataclass

from tests.exhaustive.proxy_scenes_engine import PORT
from tests.exhaustive.proxy_scenes_stage import Scene
from trioproxy.net.stream import ABORT
from trioproxy.testing.network import Endpoint

Blow = Callable[[Scene], None]


@dataclass(frozen=True)
class Consequences:
    """The codes of the failures that clients may be told because of a blow, and how many
    connections it may break off under its clients."""

    codes: frozenset[str]
    breaks: float


NOTHING = Consequences(frozenset(), breaks=0)
CONSEQUENCES: dict[Blow, Consequences] = {}


def blow(*codes: str, breaks: float = 0) -> Callable[[Blow], Blow]:
    """Register a blow."""

    def register(strike: Blow) -> Blow:
        CONSEQUENCES[strike] = Consequences(frozenset(codes), breaks)
        return strike

    return register


@blow()
def first_client_resets(scene: Scene) -> None:
    for client in scene.clients[:1]:
        client.reset()
        client.scope.cancel(reason="struck")


@blow()
def first_client_closes(scene: Scene) -> None:
    for client in scene.clients[:1]:
        client.close()
        client.scope.cancel(reason="struck")


@blow(breaks=1)
def first_client_half_closes(scene: Scene) -> None:
    for client in scene.clients[:1]:
        client.half_close()


@blow()
def all_clients_reset(scene: Scene) -> None:
    for client in scene.clients:
        client.reset()
        client.scope.cancel(reason="struck")


@blow(breaks=math.inf)
def connections_are_killed(scene: Scene) -> None:
    scene.proxy.server.kill_all()


@blow("cancelled")
def generations_are_cancelled(scene: Scene) -> None:
    for generation in list(scene.proxy.hub.running):
        generation.cancel("struck")


@blow("shutting_down", "draining")
def hub_is_closed(scene: Scene) -> None:
    scene.proxy.hub.close()


@blow(breaks=math.inf)
def proxy_is_cancelled(scene: Scene) -> None:
    scene.proxy_scope.cancel(reason="struck")


@blow("upstream_broken")
def upstream_resets(scene: Scene) -> None:
    for endpoint in upstream_endpoints(scene):
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        endpoint.close()


@blow("upstream_broken")
def upstream_closes(scene: Scene) -> None:
    for endpoint in upstream_endpoints(scene):
        endpoint.close()


@blow("upstream_broken", "upstream_unreachable", breaks=1)
def a_connection_fails(scene: Scene) -> None:
    """The fault of one I/O, which the network raises by itself."""
    raise AssertionError("a fault was tried, not a blow")


def upstream_endpoints(scene: Scene) -> list[Endpoint]:
    """The upstream's ends of its connections."""
    return [endpoint for endpoint in scene.network.open_endpoints if endpoint.local[1] == PORT]
