"""The terminal as a stage: an act is announced, a picture of it is painted while it runs, and its
figures stay.

Where there is no terminal nothing is painted: the same lines are printed, without escape codes.
"""

import os
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

import trio
from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel

from trioproxy.demo.figures import Figure
from trioproxy.simulator import SimulatedEngine

MAX_WIDTH = 100
READING_SECONDS = 0.5
"""The pause between an act's announcement and its beginning, where somebody reads along."""
FRAME_SECONDS = 1 / 12


def open_console() -> Console:
    """The console of standard output: live on a terminal that can move its cursor, plain elsewhere."""
    if sys.stdout.isatty() and os.environ.get("TERM") not in {None, "dumb", "unknown"}:
        return Console(highlight=False)
    return Console(highlight=False, force_terminal=False, width=MAX_WIDTH)


class Stage:
    """Shows what happens. ``waits_for`` is what the demonstration waits for, in words."""

    def __init__(self, console: Console, engine: SimulatedEngine) -> None:
        self.waits_for = "the first act"
        self._console = console
        self._engine = engine
        self._calls_before = 0

    async def announce(self, title: str, sentence: str) -> None:
        """Say what is about to happen, and leave a moment to read it. If cancelled, it was said."""
        self._console.print(f"\n[bold cyan]{escape(title)}[/]")
        self._console.print(sentence, markup=False, width=self._width)
        self._calls_before = self._engine.stats.calls
        if self._console.is_terminal:
            await trio.sleep(READING_SECONDS)

    @asynccontextmanager
    async def showing(self, picture: Callable[[], RenderableType]) -> AsyncGenerator[None]:
        """Paint ``picture()`` over and over while the block runs, and once when it is left."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, auto_refresh=False) as live:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._paint, live, picture)
                yield
                nursery.cancel_scope.cancel(reason="the act is over")
            live.update(self._frame(picture, ""), refresh=True)

    def conclude(self, figures: Sequence[Figure]) -> None:
        """Print an act's figures, a line each."""
        for figure in figures:
            self._console.print(f" {figure.mark} {escape(figure.law)}: [cyan]{figure.measured}[/]")

    async def _paint(self, live: Live, picture: Callable[[], RenderableType]) -> None:
        while True:
            live.update(self._frame(picture, f" waiting for {self.waits_for} "), refresh=True)
            await trio.sleep(FRAME_SECONDS)

    def _frame(self, picture: Callable[[], RenderableType], footer: str) -> Panel:
        calls = self._engine.stats.calls - self._calls_before
        counts = f" the engine: {calls} call{'s' * (calls != 1)}, {self._engine.stats.active} running "
        return Panel(
            picture(),
            title=f"[bold]{counts}[/]",
            title_align="left",
            subtitle=f"[dim]{escape(footer)}[/]" if footer else None,
            subtitle_align="right",
            border_style="bright_black",
            padding=(0, 1),
            width=self._width,
        )

    @property
    def _width(self) -> int:
        return min(self._console.width, MAX_WIDTH)
