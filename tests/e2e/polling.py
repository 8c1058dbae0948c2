"""Asking another process until it says what is expected: nothing tells when that has happened."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from tests.support.rawhttp import open_client

_T = TypeVar("_T")


async def fetch(url: str, path: str) -> bytes:
    """The body of `GET path`, which must be answered with 200. Opens and closes one connection."""
    async with open_client(url) as client:
        await client.request("GET", path)
        head = await client.response_head()
        body = await client.body()
    assert head.status == 200, f"{path}: {head} {body!r}"
    return body


async def wait_equal(
    expected: _T,
    measure: Callable[[], Awaitable[_T]],
    *,
    what: str,
    within: float,
    every: float = 0.01,
) -> None:
    """Measure, and again `every` so many seconds, until it gives `expected`; `what` names it.

    Raises:
        AssertionError: it did not, within that many seconds; the message has the last figure.
    """
    measured = await measure()
    with trio.move_on_after(within):
        while measured != expected:
            await trio.sleep(every)
            measured = await measure()
    assert expected == measured, f"{what}: {measured} after {within} s, not {expected}"
