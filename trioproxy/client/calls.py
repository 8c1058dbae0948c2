"""The requests that a client makes of a proxy, and what it makes of refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, Literal
from urllib.parse import quote

import httpx
import msgspec

from trioproxy.client.connection import Connection, Connector
from trioproxy.client.errors import AttemptFailed, GenerationGone, Refused, UnexpectedAnswer
from trioproxy.client.hearing import words_of

OF_EVERY_REQUEST = {
    "Accept-Encoding": "identity",  # a compressed stream comes late
    "Connection": "close",  # or else httpcore asks an idle socket for news that was closed for it
}

Mode = Literal["replay", "live", "private"]
"""How a request wants its generation; see :class:`~trioproxy.client.Client`."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What starts a generation, as often as it is sent: the same key finds it again."""

    path: str
    body: bytes
    key: str
    linger: float
    mode: Mode | None


class Outcome(msgspec.Struct):
    """How a generation ended."""

    kind: str
    reason: str | None = None


class Description(msgspec.Struct):
    """What has to be known of a generation: its path, how many events it has had, and its
    outcome, None while it runs."""

    path: str
    events: int
    outcome: Outcome | None = None


class Calls:
    """Each request on a connection of its own, all with the same ``headers``.

    They raise :class:`AttemptFailed` where the request may be repeated, :class:`Refused` where that
    would be of no use, :class:`UnexpectedAnswer` where no trioproxy has answered.
    """

    def __init__(self, connector: Connector, headers: Mapping[str, str]) -> None:
        self._connector = connector
        self._headers = httpx.Headers(headers)

    def also_with(self, headers: Mapping[str, str]) -> Calls:
        """The same, with further headers."""
        return Calls(self._connector, self._merged(headers))

    async def ask(self, asking: Asking) -> Connection:
        """Start the generation, or join the one that runs; returns its stream."""
        fields = {
            "Content-Type": "application/json",
            "X-Generation-Key": asking.key,
            "X-Linger": f"{asking.linger:g}",
        }
        if asking.mode is not None:
            fields["X-Fanout"] = asking.mode
        return await self._open("POST", asking.path, fields, asking.body)

    async def events(self, generation_id: str, after: int, *, live: bool) -> Connection:
        """Read a generation after an event; ``live`` from the next one on."""
        target = f"{_target_of(generation_id)}/events"
        if live:
            return await self._open("GET", f"{target}?mode=live")
        return await self._open("GET", target, {"Last-Event-ID": f"{generation_id}:{after}"})

    async def describe(self, generation_id: str) -> Description:
        """What is known of a generation."""
        described = await self.read_json("GET", generation_id)
        try:
            return msgspec.convert(described, Description)
        except msgspec.ValidationError as error:
            raise UnexpectedAnswer(f"this describes no generation: {error}") from error

    async def read_json(self, method: Literal["GET", "DELETE"], generation_id: str) -> Any:
        """Look at a generation, or stop it: either way, its description."""
        connection = await self._open(method, _target_of(generation_id))
        try:
            body = await connection.read_whole()
        finally:
            await connection.aclose()  # noqa: ASYNC102 - closes first, and waits for nothing
        try:
            return msgspec.json.decode(body)
        except ValueError as error:
            raise UnexpectedAnswer(f"the answer is not JSON: {error}") from error

    async def _open(
        self, method: str, target: str, fields: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Connection:
        headers = self._merged({**OF_EVERY_REQUEST, **(fields or {})})
        connection = await self._connector.open(method, target, headers, body)
        if 200 <= connection.status < 300:
            return connection
        try:
            refusal = await connection.read_whole()
        finally:
            await connection.aclose()  # noqa: ASYNC102 - closes first, and waits for nothing
        raise _error_of(connection, refusal, is_safe=method != "POST")

    def _merged(self, headers: Mapping[str, str]) -> httpx.Headers:
        merged = self._headers.copy()  # which knows that names are the same in any case
        merged.update(headers)
        return merged


def _target_of(generation_id: str) -> str:
    return f"/v1/generations/{quote(generation_id, safe='')}"


def _error_of(connection: Connection, body: bytes, *, is_safe: bool) -> Exception:
    status = connection.status
    message, code = words_of(body)
    retry_after = _seconds_of(connection.headers.get("retry-after"))
    if status in (429, 503) and (is_safe or retry_after is not None):
        return AttemptFailed(f"the server puts us off: {status}: {message}", retry_after)
    if status >= 500 and is_safe:
        return AttemptFailed(f"the server failed: {status}: {message}")
    if is_safe and status in (404, 410):
        return GenerationGone(status, message, code)
    return Refused(status, message, code)


def _seconds_of(retry_after: str | None) -> float | None:
    """Seconds from now; it tells them, or a date (RFC 9110, section 10.2.3)."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time())
    except ValueError:
        return None
