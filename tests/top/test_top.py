"""`top` beside a real proxy."""

from __future__ import annotations

import io

import httpx
import pytest
import trio
from rich.console import Console

from tests.web.service import (
    COMPLETION,
    COMPLETIONS,
    HALF_OF_EIGHT_THEN_SILENCE,
    open_simulated,
)
from trioproxy.top import ProxyRefused, top


class Screen(io.StringIO):
    """A terminal that is written to; ``shows`` waits until a text has been."""

    def __init__(self) -> None:
        super().__init__()
        self.written = trio.lowlevel.ParkingLot()

    def write(self, text: str, /) -> int:
        self.written.unpark_all()
        return super().write(text)

    async def shows(self, text: str) -> None:
        with trio.fail_after(10):
            while text not in self.getvalue():
                await self.written.park()


async def test_once_prints_the_table_as_it_is() -> None:
    screen = Screen()
    console = Console(file=screen, width=120)
    async with open_simulated() as service:
        await service.http.post(COMPLETIONS, json=COMPLETION | {"model": "tiny-river"})
        await top(service.url, headers={}, once=True, console=console)

    assert "tiny-river" in screen.getvalue()
    assert "completed" in screen.getvalue()


async def test_it_shows_what_changes_and_comes_back_after_the_proxy(nursery: trio.Nursery) -> None:
    screen = Screen()
    console = Console(file=screen, width=120, height=20, force_terminal=True)

    async def look_on(url: str) -> None:
        await top(url, headers={}, once=False, console=console)

    async with open_simulated() as service:
        nursery.start_soon(look_on, service.url)
        await screen.shows("live")
        async with service.ask(headers=HALF_OF_EIGHT_THEN_SILENCE):
            await screen.shows("1 running")
        await screen.shows("abandoned")
    await screen.shows("reconnecting")
    nursery.cancel_scope.cancel()


async def test_what_will_not_change_is_told() -> None:
    async with open_simulated() as service:
        with pytest.raises(ProxyRefused, match="404"):
            await top(f"{service.url}/nowhere", headers={}, once=True, console=Console())
    with pytest.raises(httpx.ConnectError):
        await top("http://127.0.0.1:1", headers={}, once=True, console=Console())
