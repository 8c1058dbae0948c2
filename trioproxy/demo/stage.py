"""The terminal as a stage: an act is announced, a picture of it is painted while it runs, and its
figures stay.

Where there is no terminal nothing is painted: the same lines are printed, without escape codes.
"""

import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import trio
from rich.console import Console, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from trioproxy.demo.drawing import REPLAYED
from trioproxy.demo.figures import Figure, calls_in_words
from trioproxy.simulator import Stats

MAX_WIDTH = 100
PLAIN_WIDTH = 80
READING_SECONDS = 0.4
"""The pause between an act's announcement and its beginning, where somebody reads along."""
FRAME_SECONDS = 1 / 12

Picture = Callable[[], RenderableType]


def open_console() -> Console:
    """The console of standard output: live on a terminal that can move its cursor, else plain."""
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}:
        return Console(highlight=False)
    return Console(highlight=False, force_terminal=False, width=PLAIN_WIDTH)


class Stage:
    """Shows what happens. ``waits_for`` is what the demonstration waits for, in words.

    All painting is done by the one task that runs :meth:`paint`, so that a census of tasks finds
    the same ones at any time.
    """

    def __init__(self, console: Console) -> None:
        self.waits_for = "engine and proxy to open"
        self._console = console
        self._stats = Stats()
        self._calls_before = 0
        self._painting: tuple[Live, Picture] | None = None

    def watch(self, stats: Stats) -> None:
        """Show these counts of the engine with every picture from now on."""
        self._stats = stats

    def tell(self, *parts: str | Text | tuple[str, str]) -> None:
        """Print a line: plain words, and words with a style."""
        self.show(Text.assemble(*parts))

    def show(self, picture: RenderableType) -> None:
        """Print a picture once, to stay."""
        self._console.print(picture, width=self._width)

    async def announce(self, title: str, sentence: str) -> None:
        """Say what is about to happen, and leave a moment to read it. If cancelled, it was said."""
        self.tell()
        self.tell((title, f"bold {REPLAYED}"))
        self.tell(sentence)
        self._calls_before = self._stats.calls
        if self._console.is_terminal:
            await trio.sleep(READING_SECONDS)

    @contextmanager
    def showing(self, picture: Picture) -> Generator[None]:
        """Paint ``picture()`` over and over while the block runs; the last one stays."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, auto_refresh=False) as live:
            self._painting = live, picture
            try:
                yield
            finally:
                self._painting = None
                live.update(self._frame(picture, None), refresh=True)

    def conclude(self, figures: Sequence[Figure]) -> None:
        """Print an act's figures, a line each."""
        for figure in figures:
            self.tell(figure.mark, f" {figure.law}: ", (figure.measured, REPLAYED))

    async def paint(self) -> None:
        """Paint what is being shown, until cancelled."""
        while True:
            if self._painting is not None:
                live, picture = self._painting
                footer = Text(f"waiting for {self.waits_for}")
                live.update(self._frame(picture, footer), refresh=True)
            await trio.sleep(FRAME_SECONDS)

    def _frame(self, picture: Picture, footer: Text | None) -> Panel:
        calls = calls_in_words(self._stats.calls - self._calls_before)
        counts = f"engine: {calls}, {self._stats.active} running"
        return Panel(
            picture(),
            title=Text(counts, "bold default"),
            title_align="left",
            subtitle=footer,
            subtitle_align="right",
            border_style="bright_black",
            padding=(0, 1),
            width=self._width,
        )

    @property
    def _width(self) -> int:
        return min(self._console.width, MAX_WIDTH)
