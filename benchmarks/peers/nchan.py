"""nchan, nginx's module for publishing to many subscribers, and the feeder that publishes.

nchan calls no engine: a process of the harness reads the answer and POSTs each event of it, at the
moment at which it comes, to nchan's publisher, over one connection that is kept alive. What that
process costs is not nchan's, and is not counted.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import quote

from benchmarks.peers import nginx
from benchmarks.processes import Process, run
from benchmarks.questions import Question

MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
"""Where Debian's package puts it."""


def missing() -> str | None:
    """Why it cannot run here, or None."""
    if reason := nginx.missing():
        return reason
    if not MODULE.exists():
        return f"{MODULE} is not there (Debian package: libnginx-mod-nchan)"
    return None


def launch(engine_url: str) -> AbstractContextManager[Process]:
    """Run nginx with nchan for the length of the block. It does not call the engine."""
    return nginx.run_nginx("nchan.conf", module=str(MODULE))


def ask(question: Question) -> bytes:
    """As an EventSource does (WHATWG HTML, section 9.2)."""
    path = f"/subscribe?id={quote(question.prompt, safe='')}"
    return f"GET {path} HTTP/1.1\r\nHost: proxy\r\nAccept: text/event-stream\r\n\r\n".encode()


def feed(server: Process, engine: Process, question: Question) -> AbstractContextManager[object]:
    """Let a process publish the engine's answer for the length of the block."""
    channel = f"{server.url}/publish?id={quote(question.prompt, safe='')}"
    options = (question.prompt, str(question.tokens), f"{question.rate:g}", f"{question.ttft:g}")
    return run([engine.url, channel, *options], module="benchmarks.peers.feeder")
