"""What `top` is to processes, for a proxy's generations: a table of them as it changes.

The proxy may be local or remote. It reads the board (`/v1/generations/events`): what has changed is
told twice a second.
"""

from trioproxy.top.board import Board, Row, Totals
from trioproxy.top.display import render
from trioproxy.top.reading import ProxyRefused, top

__all__ = ["Board", "ProxyRefused", "Row", "Totals", "render", "top"]
