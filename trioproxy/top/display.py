"""The board as a table."""

import statistics
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from trioproxy.top.board import Board, Row, Totals

_BARS = "▁▂▃▄▅▆▇█"
_NOTHING = "–"
_SHOWN_GAPS = 16
_ID_LETTERS = 8


def render(board: Board, *, url: str, state: str, rows: int) -> RenderableType:
    """The totals, and a table of at most so many rows; `state` is that of the connection."""
    shown = board.in_order()
    has_nodes = any(row.node is not None for row in shown)
    summary = Text.assemble(
        (url, "bold"), f"  {state}\n", _sum_up(shown, board.totals), (_missing(board), "red")
    )
    table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column("id", no_wrap=True, min_width=_ID_LETTERS)
    if has_nodes:
        table.add_column("node", no_wrap=True, min_width=_ID_LETTERS)
    table.add_column("state", no_wrap=True, min_width=9, max_width=16)
    table.add_column("model", no_wrap=True, max_width=22)
    for title in ("readers", "tokens", "ttft", "tok/s"):
        table.add_column(title, justify="right", no_wrap=True, min_width=6)
    table.add_column("gaps", no_wrap=True, min_width=_SHOWN_GAPS)
    for row in shown[:rows]:
        table.add_row(
            *_cells(row, has_nodes=has_nodes), style="" if row.state == "running" else "dim"
        )
    if len(shown) > rows:
        table.add_row(f"… {len(shown) - rows} more")
    return Group(summary, "", table)


def sparkline(gaps: Sequence[float]) -> str:
    """The gaps as bars: one that is the median is half as high as there is room for, and one of
    twice that or more reaches the top."""
    gaps = gaps[-_SHOWN_GAPS:]
    median = statistics.median(gaps) if gaps else 0.0
    if not median:
        return ""
    return "".join(_BARS[min(7, int(4 * gap / median))] for gap in gaps)


def _sum_up(rows: Sequence[Row], totals: Totals | None) -> str:
    running = [row for row in rows if row.state == "running"]
    parts = [
        f"{len(running)} running",
        f"{sum(row.subscribers for row in rows)} readers",
        f"{sum(row.tokens_per_second or 0 for row in running):.0f} tokens/s",
    ]
    if totals is not None:
        parts.append(f"{totals.upstream_calls} upstream calls")
        parts.append(f"{totals.saved_calls} saved by sharing")
    return ", ".join(parts)


def _missing(board: Board) -> str:
    if board.missing is None:
        return "\nthe other nodes cannot be asked: their broker is away"
    if board.is_whole:
        return ""
    return f"\nno answer of {', '.join(node[:_ID_LETTERS] for node in board.missing)}"


def _cells(row: Row, *, has_nodes: bool) -> list[str]:
    tokens = row.usage and row.usage.completion_tokens
    name = row.id.rpartition("_")[2]  # in a cluster the same request begins all of its ids
    return [
        name[:_ID_LETTERS],
        *([(row.node or _NOTHING)[:_ID_LETTERS]] if has_nodes else []),
        _state(row),
        row.model or _NOTHING,
        str(row.subscribers),
        _NOTHING if tokens is None else str(tokens),
        _NOTHING if row.ttft_seconds is None else _duration(row.ttft_seconds),
        _NOTHING if row.tokens_per_second is None else f"{row.tokens_per_second:.1f}",
        sparkline(row.recent_gaps),
    ]


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _state(row: Row) -> str:
    if row.outcome is None:
        return row.state
    return row.outcome.reason or row.outcome.kind
