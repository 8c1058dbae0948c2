"""Spans on their way to a collector."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.e2e.commands import open_command, open_simulator
from tests.e2e.streams import COMPLETION, COMPLETIONS, read_events
from tests.support.rawhttp import post_stream


@contextmanager
def open_collector() -> Generator[tuple[str, list[tuple[str, bytes]]]]:
    """A collector: its URL, and the path and body of each request that it was sent."""
    received: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", received
        finally:
            server.shutdown()
            thread.join()


async def test_what_is_left_at_the_end_is_sent_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_collector() as (url, received), open_simulator("--rate", "0") as engine:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        options = ("--bind", "127.0.0.1:0", "--upstream", engine.url, "--traces")
        with open_command("serve", *options) as proxy:
            async with post_stream(proxy.url, COMPLETIONS, COMPLETION) as reader:
                await read_events(reader)

    assert {path for path, _ in received} == {"/v1/traces"}
    exported = [ExportTraceServiceRequest.FromString(body) for _, body in received]
    (resource,) = [spans for each in exported for spans in each.resource_spans]
    (scope,) = resource.scope_spans
    (span,) = scope.spans
    named = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert (named["service.name"], scope.scope.name) == ("trioproxy", "trioproxy")
    assert span.name == "text_completion tiny"


async def test_without_a_collector_the_proxy_serves_and_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    with open_simulator("--rate", "0") as engine:
        options = ("--bind", "127.0.0.1:0", "--upstream", engine.url, "--traces")
        with open_command("serve", *options) as proxy:
            async with post_stream(proxy.url, COMPLETIONS, COMPLETION) as reader:
                assert (await read_events(reader))[-1].data == b"[DONE]"
