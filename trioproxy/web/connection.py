"""One request: its handler and its body share one stack, so nothing is lost between them."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from typing import cast

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable
from quart import request
from quart.wrappers import Request
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers import TrioRequest

from trioproxy.fanout import SourceFailed
from trioproxy.telemetry import log_request
from trioproxy.web.caller import NOBODY, Caller

logger = logging.getLogger(__name__)


class ProxyRequest(TrioRequest):
    """A request that owns what was acquired for it. Left when the response is out, or on the way
    there. ``accepted_at`` is when its head had come, in trio's time; ``caller`` is who asks, as
    :mod:`trioproxy.web.door` found, and ``address`` where they are, as
    :mod:`trioproxy.web.whereabouts` did; ``status`` and ``generation_id`` are what it is answered
    with, None before and where there is none.

    A subscriber is entered as the plain context manager it is, and left synchronously, whatever
    cancels the request; the stack is asynchronous for the sake of a forwarded call, whose closing
    is not.
    """

    exit_stack: AsyncExitStack
    accepted_at: float
    address: str | None = None
    caller: Caller = NOBODY
    status: int | None = None
    generation_id: str | None = None

    async def read_body(self) -> bytes:
        """The body, received whole.

        Raises the HTTP errors 413 where it is larger than ``MAX_CONTENT_LENGTH`` bytes, and 408
        where it takes longer than ``BODY_TIMEOUT`` seconds.
        """
        return cast(bytes, await self.get_data())

    @property
    def header_pairs(self) -> list[tuple[bytes, bytes]]:
        """The headers as they came, names in lower case."""
        return list(self.scope["headers"])

    @property
    def target(self) -> bytes:
        """Path and query as they came; of the absolute form too (RFC 9112, section 3.2.2)."""
        path: bytes = self.scope["raw_path"]
        if path.lower().startswith((b"http://", b"https://")):
            path = b"/" + b"".join(path.split(b"/", 3)[3:])
        query: bytes = self.scope["query_string"]
        return path + (b"?" + query if query else b"")


class RequestConnection(TrioASGIHTTPConnection):
    """Quart's view of one request, with a stack around handler *and* body.

    Where the handler acquires and the body releases, a client that leaves between the two leaves a
    subscriber behind: the body's first step never runs, and neither does its ``finally``.
    """

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Answer the request in the calling task, beside one that waits for the client: a task less
        than Quart takes, for each connection."""
        request = cast(ProxyRequest, self._create_request_from_scope(send))
        request.accepted_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.handle_messages, nursery, request, receive)
            await self.handle_request(nursery, request, send)

    async def handle_request(  # type: ignore[override]
        self, nursery: trio.Nursery, request: Request, send: ASGISendCallable
    ) -> None:
        request = cast(ProxyRequest, request)
        async with AsyncExitStack() as stack:
            request.exit_stack = stack
            stack.callback(_log, request)
            try:
                await super().handle_request(nursery, request, send)
            except SourceFailed as error:
                # The head is out and the rest will not come: only cutting the body can tell.
                logger.warning("%r was cut: %s", request.path, error)
                nursery.cancel_scope.cancel(reason="the answer broke off")


def _log(request: ProxyRequest) -> None:
    log_request(
        method=request.method,
        path=request.path,
        client=request.address,
        status=request.status,
        tenant=request.caller.tenant,
        generation=request.generation_id,
        seconds=trio.current_time() - request.accepted_at,
    )


def current_request() -> ProxyRequest:
    """The request that the current task answers."""
    return cast(ProxyRequest, request)
