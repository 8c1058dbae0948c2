"""The streaming proxy that people write by hand: Starlette, a shared httpx client, uvicorn.

    python -m benchmarks.peers.starlette_app ENGINE_URL

It is what the documentation of the three leads to: the handler returns a ``StreamingResponse`` over
a generator that reads the upstream inside ``async with client.stream(...)``, so that leaving the
generator closes the call. httpx's limit of 100 connections and its timeouts of 5 seconds are
lifted, which whoever runs it for a day finds out.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

BACKLOG = 4096
EXIT_SECONDS = 1
NOT_FORWARDED = {b"host", b"content-length", b"connection"}


def create_app(engine_url: str, on_startup: Callable[[], None]) -> Starlette:
    """Make the ASGI application that forwards the two streaming routes to the engine."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    client = httpx.AsyncClient(base_url=engine_url, timeout=None, limits=limits, trust_env=False)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        async with client:
            on_startup()
            yield

    async def forward(request: Request) -> StreamingResponse:
        body = await request.body()
        headers = [pair for pair in request.headers.raw if pair[0] not in NOT_FORWARDED]

        async def chunks() -> AsyncGenerator[bytes]:
            async with client.stream(
                "POST", request.url.path, content=body, headers=headers
            ) as response:
                async for chunk in response.aiter_raw():
                    yield chunk  # noqa: ASYNC119 - as it is written

        return StreamingResponse(chunks(), media_type="text/event-stream")

    paths = ("/v1/completions", "/v1/chat/completions")
    routes = [Route(path, forward, methods=["POST"]) for path in paths]
    return Starlette(routes=routes, lifespan=lifespan)


def main(engine_url: str) -> None:
    """Serve on a free port of 127.0.0.1, printed as the first line, until SIGTERM."""
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
        line = f"starlette on http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            create_app(engine_url, on_startup=lambda: print(line, flush=True)),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=EXIT_SECONDS,
        )
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1])
