"""The same fan-out on the stock server: quart-trio on hypercorn, over trioproxy's hub and upstream.

    python -m benchmarks.peers.quart_app ENGINE_URL [CERTFILE KEYFILE]

What it differs in from trioproxy is the serving alone: hypercorn's own connections, and a body
generator that joins the hub itself, so that a client which leaves between handler and body has
joined nothing. ``X-Fanout: replay`` and ``live`` share a running generation of the same body;
without the header a call is private. There is no resuming. ``/v1/ws`` takes one ``generate`` and
sends its events, as trioproxy's does; with a certificate all is over TLS.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import cast

import msgspec
import trio
from hypercorn.config import Config
from hypercorn.trio import serve  # pyright: ignore[reportUnknownVariableType]
from quart import request, websocket
from quart_trio import QuartTrio
from quart_trio.wrappers import TrioResponse as Response

from trioproxy.fanout import Event, Feed, Hub, Limits, Mode, open_hub
from trioproxy.upstream import Timeouts, Upstream, UpstreamRequest
from trioproxy.web.messages import Generate, render_event
from trioproxy.wire import ROUTES, Dialect, Message, Tally, encode

BACKLOG = 4096
MAX_GENERATIONS = 10_000
MAX_TRANSCRIPT_BYTES = 256 << 20
MAX_EVENT_BYTES = 1 << 20
LIMITS = Limits(max_generations=MAX_GENERATIONS, max_transcript_bytes=MAX_TRANSCRIPT_BYTES)
JSON = (b"content-type", b"application/json")
MODES: dict[str, Mode] = {"replay": "replay", "live": "live"}


def create_app(hub: Hub, upstream: Upstream) -> QuartTrio:
    """Make the ASGI application over a hub and an upstream that the caller owns."""
    app = QuartTrio(__name__, static_folder=None)
    app.config["RESPONSE_TIMEOUT"] = None

    async def generate(dialect: Dialect) -> Response:
        body = cast(bytes, await request.get_data())
        headers = list(request.scope["headers"])
        call = UpstreamRequest("POST", request.path.encode(), headers, body)
        mode = MODES.get(request.headers.get("X-Fanout", ""), "private")
        frames = read_frames(hub, (request.path, body), upstream, call, dialect, mode)
        return Response(frames, content_type="text/event-stream")

    async def generate_on_socket() -> None:
        asked = msgspec.json.decode(await websocket.receive(), type=Generate)
        path, body, dialect = asked.path, bytes(asked.body), ROUTES[asked.path]
        headers = [*websocket.scope["headers"], JSON]
        call = UpstreamRequest("POST", path.encode(), headers, body)
        source = make_call(upstream, call, dialect)
        with hub.join((path, body), source, mode=asked.mode or "private") as subscriber:
            async for batch in subscriber:
                for message in batch.frames(render_event):
                    await websocket.send(message.decode())

    async def census() -> dict[str, int]:  # noqa: ASYNC124 - or Quart takes a thread
        generations = [*hub.running, *hub.retained]
        return {
            "tasks": trio.lowlevel.current_statistics().tasks_living,
            "fds": len(os.listdir("/proc/self/fd")) - 1,  # less the one that lists them
            "generations": len(hub.running),
            "subscribers": sum(len(generation.subscribers) for generation in generations),
            "upstream_calls": upstream.open_calls,
        }

    for path, dialect in ROUTES.items():
        app.add_url_rule(path, dialect.name, partial(generate, dialect), methods=["POST"])
    app.add_websocket("/v1/ws", "socket", generate_on_socket)
    app.add_url_rule("/debug/census", "census", census, methods=["GET"])
    return app


async def read_frames(
    hub: Hub,
    key: tuple[str, bytes],
    upstream: Upstream,
    call: UpstreamRequest,
    dialect: Dialect,
    mode: Mode,
) -> AsyncGenerator[bytes]:
    """The body of one response: a subscriber's batches, joined at the first step, left at the
    last."""
    with hub.join(key, make_call(upstream, call, dialect), mode=mode) as subscriber:
        async for batch in subscriber:
            yield batch.render(render)  # noqa: ASYNC119 - Quart closes the generator


@asynccontextmanager
async def make_call(
    upstream: Upstream, call: UpstreamRequest, dialect: Dialect
) -> AsyncGenerator[Feed]:
    """A source: the call, counted while it is open."""
    async with upstream.place(), upstream.stream(call, dialect, Tally(dialect)) as feed:
        yield feed


def render(generation_id: str, event: Event) -> bytes:
    """An event as its frame, with the id that trioproxy gives it."""
    return encode(Message(event.name, event.data), f"{generation_id}:{event.seq}".encode())


async def main(engine_url: str, certificate: Sequence[str]) -> None:
    """Serve on a free port of 127.0.0.1, printed as the first line, until the process is ended."""
    config = Config()
    if certificate:
        config.certfile, config.keyfile = certificate
    config.alpn_protocols = ["http/1.1"]
    config.bind = ["127.0.0.1:0"]
    config.backlog = BACKLOG
    config.loglevel = "WARNING"
    upstream = Upstream(
        engine_url,
        timeouts=Timeouts(connect=5, first_token=600, inter_token=120),
        max_event_bytes=MAX_EVENT_BYTES,
        trust_env=False,
    )
    async with (
        open_hub(LIMITS) as hub,
        trio.open_nursery() as nursery,
    ):
        app = create_app(hub, upstream)
        [bind] = await nursery.start(
            partial(serve, app, config, shutdown_trigger=trio.sleep_forever)
        )
        print(f"quart on {bind}", flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2:])
