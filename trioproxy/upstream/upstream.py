"""The upstream as the proxy sees it: where it is, how patient we are, how to call it."""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass, replace

import httpx
import trio

from trioproxy.upstream.call import Answer, open_call
from trioproxy.upstream.errors import (
    UpstreamBroken,
    UpstreamNotStreaming,
    UpstreamRefused,
    UpstreamSilent,
)
from trioproxy.upstream.feed import EventFeed, WholeFeed
from trioproxy.upstream.headers import request_headers
from trioproxy.upstream.places import Places
from trioproxy.upstream.proxied import environment_names_proxy, open_proxied_call
from trioproxy.upstream.request import UpstreamRequest
from trioproxy.upstream.transport import IDLE_SECONDS, TrioTransport
from trioproxy.wire import Dialect, Tally

MAX_REFUSAL_BYTES = 64 * 1024
"""An error answer is kept up to this size; what is longer is cut."""
REFUSAL_SECONDS = 2.0
"""An error answer is waited for so long, once its head is here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How patient we are, in seconds: to connect, from the call to its first event, between two
    events."""

    connect: float = 5.0
    first_token: float = 600.0
    inter_token: float = 120.0


class Upstream:
    """One engine's endpoint. Each call is made in one of its ``places``, which is waited for first
    (:meth:`place`): who has waited may find that it is not to be made any more.

    ``key`` is sent in place of the client's credentials, which go on without one only where
    ``forward_credentials`` says so; ``headers`` in place of the client's of the same names.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str = "",
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        forward_credentials: bool = True,
        timeouts: Timeouts | None = None,
        max_event_bytes: int = 1024 * 1024,
        trust_env: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        places: Places | None = None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self.timeouts = timeouts or Timeouts()
        self.max_event_bytes = max_event_bytes
        self.name = name
        self.places = places or Places()
        self._key = key
        self._headers = [
            (key.lower().encode(), value.encode()) for key, value in (headers or {}).items()
        ]
        self._forward_credentials = forward_credentials
        self._trust_env = trust_env
        self._base_url = httpx.URL(url)
        # One context for all calls: loading the certificate store costs more than a call does.
        self._ssl_context = ssl_context or _ssl_context_for(self._base_url, trust_env)
        self._transport = TrioTransport(self._ssl_context, idle_seconds=idle_seconds)

    @property
    def open_calls(self) -> int:
        """The calls that are made, or wait for a place."""
        return self.places.taken

    def place(self) -> AbstractAsyncContextManager[None]:
        """One of its places, for the length of the block: see :meth:`Places.place`."""
        return self.places.place(self.timeouts.first_token)

    def keep_alive(self) -> AbstractAsyncContextManager[None]:
        """For the length of the block, a connection whose answer was read to its end is kept for
        the calls of the next ``idle_seconds``. Without it, each call has a connection of its
        own."""
        return self._transport.keep_alive()

    @asynccontextmanager
    async def stream(
        self, request: UpstreamRequest, dialect: Dialect, tally: Tally
    ) -> AsyncGenerator[EventFeed]:
        """A source: the call whose answer is a stream of ``dialect``'s events, each counted by
        ``tally``.

        Entering raises :class:`UpstreamRefused` with the upstream's own answer where that is an
        error, or one of the other errors of this package.
        """
        first_deadline = trio.current_time() + self.timeouts.first_token
        async with self._open(request, first_deadline) as answer:
            expected = dialect.framing.media_type
            if answer.head.media_type != expected:
                raise UpstreamNotStreaming(
                    f"the upstream answered a streaming call with "
                    f"{answer.head.media_type or 'an untyped body'} instead of {expected}"
                )
            silence = "the upstream sent no event for too long"
            with _patience(first_deadline, silence) as patience:
                yield EventFeed(
                    answer,
                    dialect,
                    tally,
                    patience=patience,
                    inter_token_timeout=self.timeouts.inter_token,
                    max_event_bytes=self.max_event_bytes,
                )

    @asynccontextmanager
    async def whole(self, request: UpstreamRequest) -> AsyncGenerator[WholeFeed]:
        """A source: the call whose answer is one body. It has ``first_token`` seconds in all."""
        deadline = trio.current_time() + self.timeouts.first_token
        async with self._open(request, deadline) as answer:
            with _patience(deadline, "the upstream did not finish its answer in time"):
                yield WholeFeed(answer)

    def forward(self, request: UpstreamRequest) -> AbstractAsyncContextManager[Answer]:
        """The call as it is, whatever its status: for what is passed through and never shared, and
        for questions of the proxy's own, which take no call's place."""
        return self._call(request, trio.current_time() + self.timeouts.first_token)

    @asynccontextmanager
    async def _open(self, request: UpstreamRequest, deadline: float) -> AsyncGenerator[Answer]:
        async with self._call(request, deadline) as answer:
            if not 200 <= answer.head.status < 300:
                raise UpstreamRefused(
                    answer.head.status, answer.head.headers, await read_refusal(answer, deadline)
                )
            yield answer

    @asynccontextmanager
    async def _call(self, request: UpstreamRequest, deadline: float) -> AsyncGenerator[Answer]:
        async with AsyncExitStack() as stack:
            try:
                with trio.fail_at(deadline):
                    answer = await stack.enter_async_context(self._open_call(request))
            except trio.TooSlowError:
                raise UpstreamSilent("the upstream did not answer in time") from None
            answer.head = replace(answer.head, upstream=self.name)
            yield answer

    def _open_call(self, request: UpstreamRequest) -> AbstractAsyncContextManager[Answer]:
        patience = self.timeouts.connect
        headers = request_headers(
            request.headers,
            key=self._key,
            forward_credentials=self._forward_credentials and not request.withholds_credentials,
            added=self._headers,
        )
        request = replace(request, headers=headers)
        if self._trust_env and environment_names_proxy(self._base_url):
            return open_proxied_call(
                self._base_url, request, ssl_context=self._ssl_context, connect_timeout=patience
            )
        return open_call(self._transport, self._base_url, request, connect_timeout=patience)


@contextmanager
def _patience(deadline: float, complaint: str) -> Generator[trio.CancelScope]:
    """Raises :class:`UpstreamSilent` if the block is not left by the deadline (trio time), which
    may be moved."""
    with trio.CancelScope(deadline=deadline) as scope:
        yield scope
    if scope.cancelled_caught:
        raise UpstreamSilent(complaint)


def _ssl_context_for(base_url: httpx.URL, trust_env: bool) -> ssl.SSLContext:
    if base_url.scheme == "http" and not trust_env:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used, and trusts nobody
    return httpx.create_ssl_context(trust_env=trust_env)


async def read_refusal(answer: Answer, deadline: float = math.inf) -> bytes:
    """What comes of a refusal's body, soon: the status is what counts, and must not wait for it."""
    body = bytearray()
    soon = min(deadline, trio.current_time() + REFUSAL_SECONDS)
    with trio.CancelScope(deadline=soon), suppress(UpstreamBroken):
        async for chunk in answer:
            body += chunk
            if len(body) > MAX_REFUSAL_BYTES:
                break
    return bytes(body[:MAX_REFUSAL_BYTES])
