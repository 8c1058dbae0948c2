"""What the proxy logs, as the command would write it."""

from __future__ import annotations

import io
import logging
from collections.abc import Generator
from contextlib import contextmanager

from trioproxy.telemetry import LogFormat, configure_logging


@contextmanager
def listening(log_format: LogFormat, *, level: int = logging.INFO) -> Generator[io.StringIO]:
    """All that is logged in the block, but for what the tests' own client logs; logging is as it
    was when it is done."""
    root, ours, written = logging.getLogger(), logging.getLogger("trioproxy"), io.StringIO()
    handlers, root_level, our_level = list(root.handlers), root.level, ours.level
    root.handlers.clear()
    try:
        configure_logging(log_format, written)
        root.setLevel(min(level, root.level))
        ours.setLevel(level)
        for handler in root.handlers:
            handler.addFilter(lambda record: not record.name.startswith(("httpx", "httpcore")))
        yield written
    finally:
        root.handlers[:] = handlers
        root.setLevel(root_level)
        ours.setLevel(our_level)
