"""The pictures' vocabulary: a track of events, a stretch of text, a row of gaps."""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

LIVE = "green"
REPLAYED = "cyan"
GONE = "red"
KEPT = "default"
AHEAD = "bright_black"

_LEVELS = "▁▂▃▄▅▆▇█"


class Stretch(NamedTuple):
    """The events after ``start`` and up to ``end``, and the style that they are drawn in."""

    start: int
    end: int
    style: str


class Track:
    """A line of ``total`` events, as wide as there is room, on which stretches are drawn.

    Where stretches overlap, the first one is seen.
    """

    def __init__(self, total: int, *stretches: Stretch) -> None:
        self._total = total
        self._stretches = stretches

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        cells = [self._cell(number, options.max_width) for number in range(options.max_width)]
        for style, run in groupby(cells, key=itemgetter(1)):
            yield Segment("".join(glyph for glyph, _ in run), Style.parse(style))
        yield Segment.line()

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(4, options.max_width)

    def _cell(self, number: int, width: int) -> tuple[str, str]:
        """A cell's glyph and style. Each half of it is drawn or not, so that a line grows by half
        cells."""
        left, right = (self._style_at((number + half) / width) for half in (0.25, 0.75))
        if left and not right:
            return "╸", left
        if right and not left:
            return "╺", right
        return "━", left or AHEAD

    def _style_at(self, share: float) -> str | None:
        event = share * self._total
        for start, end, style in self._stretches:
            if start < event <= end:
                return style
        return None


class Wall:
    """Pictures side by side, row by row, all of one width; ``gap`` is the cells between them."""

    def __init__(self, pictures: Sequence[RenderableType], *, columns: int, gap: int = 1) -> None:
        self._pictures = pictures
        self._columns = columns
        self._gap = gap

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table.grid(padding=(0, self._gap, 0, 0))
        for _ in range(self._columns):
            table.add_column(width=(options.max_width + self._gap) // self._columns - self._gap)
        for start in range(0, len(self._pictures), self._columns):
            table.add_row(*self._pictures[start : start + self._columns])
        yield table


class Prose:
    """The last ``lines`` lines of a text, wrapped; fewer lines are filled up with blank ones."""

    def __init__(self, text: Text | str, *, lines: int) -> None:
        self._text = Text(text.lstrip()) if isinstance(text, str) else text
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wrapped = list(self._text.wrap(console, options.max_width)) if self._text else []
        shown = wrapped[-self._lines :]
        yield from shown
        for _ in range(self._lines - len(shown)):
            yield Text()


def score(*, labels: int, notes: int) -> Table:
    """A table of three columns to add rows to: label, picture, note. Widths are in cells; the
    picture has the room that is left."""
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(width=labels, no_wrap=True)
    table.add_column(ratio=1, no_wrap=True)
    table.add_column(width=notes, no_wrap=True, justify="right")
    return table


def legend(*parts: str | tuple[str, str]) -> Text:
    """A quiet line that says what is seen; a word with a style is the one that is drawn in it."""
    return Text.assemble(*parts, style="dim")


def spark(values: Sequence[float], top: float) -> str:
    """One column for each value, from 0 to ``top`` and above."""
    return "".join(_LEVELS[min(int(value / top * 8), 7)] for value in values)
