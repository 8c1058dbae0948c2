"""The client: what it is opened with, and what it is asked."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal

import httpx
import msgspec

from trioproxy.client.backoff import Backoff, repeat
from trioproxy.client.calls import Asking, Calls, Mode
from trioproxy.client.connection import Connector
from trioproxy.client.stream import GenerationStream, dialect_of


class Client:
    """Asks one proxy; made by :func:`open_client`. Any number of streams can be read at once, each
    on a connection of its own."""

    def __init__(self, calls: Calls, *, max_attempts: int) -> None:
        self._calls = calls
        self._max_attempts = max_attempts

    def stream(
        self,
        path: str,
        body: Mapping[str, object],
        *,
        generation_key: str | None = None,
        linger: float = 30.0,
        mode: Mode | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> GenerationStream:
        """Ask for a generation, once its first event is asked for; then read it to its end.

        ``path`` is one of the API's own (``"/v1/chat/completions"``), with a query if need be;
        ``body`` is its request, to which ``"stream": true`` is added. The generation outlives its
        reader for ``linger`` seconds, so that one that was cut off can come back. Under
        ``generation_key`` it can be joined by others; without one it has a random key, by which
        this client finds it again. In ``mode`` ``"live"`` a generation that runs already is read
        from its next event on; a ``"private"`` one is never shared, so that a request whose answer
        never began may have started another, which nobody reads and which ends with its linger.
        ``headers`` are sent with every request for this stream.

        Raises :exc:`ValueError` for a path on which no generation can be asked for, for a body that
        asks for no stream, and for a linger below 0.
        """
        dialect_of(path)
        if body.get("stream") not in (None, True):
            raise ValueError("the body must not ask for an answer that is no stream")
        if not linger >= 0:
            raise ValueError(f"linger must be 0 seconds or more, not {linger!r}")
        asking = Asking(
            path=path,
            body=msgspec.json.encode({**body, "stream": True}),
            key=generation_key or secrets.token_hex(16),
            linger=linger,
            mode=mode,
        )
        calls = self._calls.also_with(headers or {})
        return GenerationStream(calls, asking, live=mode == "live", max_attempts=self._max_attempts)

    def read(
        self,
        generation_id: str,
        after: int = 0,
        mode: Literal["replay", "live"] = "replay",
    ) -> GenerationStream:
        """Read a generation that exists, after event ``after``; with ``mode`` ``"live"`` and no
        ``after``, from its next event on."""
        return GenerationStream(
            self._calls,
            generation_id,
            after=after,
            live=mode == "live" and after == 0,
            max_attempts=self._max_attempts,
        )

    async def generation(self, generation_id: str) -> dict[str, Any]:
        """The description of a generation, as ``GET /v1/generations/{id}`` gives it.

        Raises :class:`GenerationGone`, :class:`Refused`, :class:`ProxyUnreachable` or
        :class:`UnexpectedAnswer`. If cancelled, its connection is closed.
        """
        return await self._repeat("GET", generation_id)

    async def cancel(self, generation_id: str) -> dict[str, Any]:
        """Stop a generation, for everyone who reads it; returns its description. One that has ended
        is left as it is.

        Raises as :meth:`generation`. If cancelled, its connection is closed, and nobody knows
        whether the generation was stopped.
        """
        return await self._repeat("DELETE", generation_id)

    async def _repeat(self, method: Literal["GET", "DELETE"], generation_id: str) -> Any:
        attempt = partial(self._calls.read_json, method, generation_id)
        return await repeat(attempt, Backoff(self._max_attempts))


@asynccontextmanager
async def open_client(
    base_url: str,
    *,
    api_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    silence_timeout: float = 60.0,
    connect_timeout: float = 5.0,
    max_attempts: int = 8,
    trust_env: bool = False,
    ssl_context: ssl.SSLContext | None = None,
) -> AsyncGenerator[Client]:
    """Open a client of the proxy at ``base_url``. The end of the block closes every connection that
    is still open, without waiting for anybody.

    ``api_key`` is sent as a bearer token, ``headers`` with every request. A connection on which
    nothing comes for ``silence_timeout`` seconds, not even a heartbeat, counts as broken.
    ``max_attempts`` in a row that bring nothing new are the last. HTTP proxies that the environment
    names are used with ``trust_env`` only.

    Raises :exc:`ValueError` for what is no HTTP URL.
    """
    url = _read_url(base_url)
    fields = dict(headers or {})
    if api_key is not None:
        fields["Authorization"] = f"Bearer {api_key}"
    connector = Connector(
        url,
        ssl_context=ssl_context or httpx.create_ssl_context(trust_env=trust_env),
        connect_timeout=connect_timeout,
        silence_timeout=silence_timeout,
        trust_env=trust_env,
    )
    try:
        yield Client(Calls(connector, fields), max_attempts=max_attempts)
    finally:
        await connector.aclose()  # noqa: ASYNC102 - closes first, and waits for nothing


def _read_url(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ValueError(f"not a URL: {base_url!r} ({error})") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"not an HTTP URL: {base_url!r}")
    return url
