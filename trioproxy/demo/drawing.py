"""The pictures' vocabulary: a track of events, a stretch of text, a row of gaps."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

LIVE = "green"
REPLAYED = "cyan"
GONE = "red"
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
        for cell in range(options.max_width):
            left, right = (self._style_at(cell + half, options.max_width) for half in (0.25, 0.75))
            if left and not right:
                yield Segment("╸", Style.parse(left))
            elif right and not left:
                yield Segment("╺", Style.parse(right))
            else:
                yield Segment("━", Style.parse(left or AHEAD))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(4, options.max_width)

    def _style_at(self, cell: float, width: int) -> str | None:
        event = cell / width * self._total
        for start, end, style in self._stretches:
            if start < event <= end:
                return style
        return None


class Prose:
    """The last ``lines`` lines of a text, wrapped; fewer lines are filled up with blank ones."""

    def __init__(self, text: Text | str, *, lines: int) -> None:
        self._text = Text(text) if isinstance(text, str) else text
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


def spark(values: Sequence[float], top: float) -> str:
    """One column for each value, from 0 to ``top`` and above."""
    return "".join(_LEVELS[min(int(value / top * 8), 7)] for value in values)
