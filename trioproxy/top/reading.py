"""Reading the board, for as long as somebody looks."""

from collections.abc import Callable

import httpx
import trio
from rich.console import Console
from rich.live import Live

from trioproxy.top.board import Board
from trioproxy.top.display import render
from trioproxy.wire import SSEParser

AGAIN_SECONDS = 1.0
"""Between the end of a connection and the next."""

SILENCE_SECONDS = 60.0
"""A proxy that is silent for longer has gone: heartbeats come more often."""

_CHROME_ROWS = 5  # what is not rows of the table


class ProxyRefused(Exception):
    """The proxy answers, and will not be asked this."""


async def top(
    url: str, *, headers: dict[str, str], once: bool, console: Console, wide: bool = False
) -> None:
    """Show the board until cancelled; `once`: as it is now, and return. `wide`: that of all
    nodes, where the proxy is one of several.

    A connection that breaks is made again. Raises `ProxyRefused` for an answer that will not
    change; with `once`, `httpx.HTTPError` where there is none.
    """
    board, query = Board(), {"scope": "cluster"} if wide else {}
    timeout = httpx.Timeout(SILENCE_SECONDS, connect=5.0)
    async with httpx.AsyncClient(
        base_url=url, headers=headers, params=query, timeout=timeout, trust_env=False
    ) as client:
        if once:
            await _list(client, board)
            console.print(render(board, url=url, state="", rows=len(board.rows)))
            return
        with Live(console=console, screen=True, auto_refresh=False) as live:

            def show(state: str) -> None:
                rows = max(1, console.height - _CHROME_ROWS - (not board.is_whole))
                live.update(render(board, url=url, state=state, rows=rows), refresh=True)

            while True:
                try:
                    await _list(client, board)
                    await _follow(client, board, lambda: show("live"))
                except (httpx.HTTPError, ValueError) as error:
                    show(f"reconnecting: {str(error) or type(error).__name__}")
                await trio.sleep(AGAIN_SECONDS)


async def _list(client: httpx.AsyncClient, board: Board) -> None:
    answer = await client.get("/v1/generations")
    _check(answer)
    board.list(answer.content)


async def _follow(client: httpx.AsyncClient, board: Board, show: Callable[[], None]) -> None:
    """Take what changes, until the connection ends."""
    parser = SSEParser()
    async with client.stream("GET", "/v1/generations/events") as answer:
        _check(answer)
        show()
        async for chunk in answer.aiter_raw():
            for message in parser.feed(chunk):
                board.take(message)
            show()


def _check(answer: httpx.Response) -> None:
    if 400 <= answer.status_code < 500:
        raise ProxyRefused(
            f"{answer.url} is answered {answer.status_code} {answer.reason_phrase}: is it a "
            f"proxy of this version, and the key right?"
        )
    answer.raise_for_status()
