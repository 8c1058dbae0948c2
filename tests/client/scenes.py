"""The whole proxy, its engine and a client on a network in memory, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import trio

from tests.exhaustive.proxy_scenes_engine import URL, Engine
from trioproxy.client import Event
from trioproxy.config import Settings
from trioproxy.testing.network import Endpoint, VirtualNetwork
from trioproxy.testing.proxy import ADDRESS
from trioproxy.testing.upstream import UpstreamCall, sse

PROXY = "http://{}:{}".format(*ADDRESS)
PATH = "/v1/completions"
BODY = {"prompt": "The river"}
SETTINGS = Settings(upstream=URL)

TOKENS = [b'{"choices": [{"text": " %d"}]}' % seq for seq in range(1, 7)]
SENT = [*TOKENS, b"[DONE]"]
TEXT = " 1 2 3 4 5 6"


async def tell_slowly(call: UpstreamCall) -> None:
    """An event at once, two a second later, and the rest with the end another second later."""
    await call.start()
    await call.write(sse(*SENT[:1]))
    await trio.sleep(1)
    await call.write(sse(*SENT[1:3]))
    await trio.sleep(1)
    await call.finish(sse(*SENT[3:]))


def assert_whole(events: list[Event]) -> None:
    """Nothing is lost and nothing doubled."""
    assert [event.seq for event in events] == [*range(1, len(SENT) + 1)]
    assert [event.data for event in events] == SENT
    assert "".join(event.text for event in events) == TEXT


def client_endpoints(network: VirtualNetwork) -> list[Endpoint]:
    """The clients' ends of their connections to the proxy."""
    return [one for one in network.open_endpoints if one.remote[1] == ADDRESS[1]]


class Faults:
    """Calls ``strike`` before each I/O within its block, on the connections of clients; not on
    those between the proxy and its engine."""

    def __init__(self, strike: Callable[[], Any]) -> None:
        self._strike = strike
        self._is_armed = False

    def __enter__(self) -> Faults:
        self._is_armed = True
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._is_armed = False

    def __call__(self) -> None:
        if self._is_armed and not any(map(_is_at_the_engine, _line_of_descent())):
            self._strike()


def _line_of_descent() -> Iterator[trio.lowlevel.Task]:
    """The task that runs, the one in whose nursery it was started, and so on."""
    task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
    while task is not None:
        yield task
        task = None if task.parent_nursery is None else task.parent_nursery.parent_task


def _is_at_the_engine(task: trio.lowlevel.Task) -> bool:
    return task.name.startswith(("reader of gen_", Engine.__module__))
