"""What the proxy logs, as the command would write it."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Generator
from contextlib import contextmanager

from trioproxy.telemetry import LogFormat, open_log


@contextmanager
def listening(log_format: LogFormat, *, level: int = logging.INFO) -> Generator[io.StringIO]:
    """All that is logged in the block, as soon as it is, but for what the tests' own client logs;
    logging is as it was when it is done."""
    root, ours, written = logging.getLogger(), logging.getLogger("trioproxy"), io.StringIO()
    handlers, root_level = list(root.handlers), root.level
    root.handlers.clear()
    try:
        with open(os.devnull, "w") as nowhere, open_log(log_format, nowhere) as writer:
            handler = logging.StreamHandler(written)
            handler.setFormatter(writer.formatter)
            handler.addFilter(lambda record: not record.name.startswith(("httpx", "httpcore")))
            root.addHandler(handler)
            root.setLevel(min(level, root.level))
            ours.setLevel(level)
            yield written
    finally:
        root.handlers[:] = handlers
        root.setLevel(root_level)
