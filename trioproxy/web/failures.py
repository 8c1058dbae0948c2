"""What went wrong, as the API's own clients expect to hear it: status, type, code and words."""

from __future__ import annotations

import logging
import math

from quart import has_request_context
from quart_trio.wrappers import TrioResponse as Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from trioproxy.fanout import (
    CursorAhead,
    Evicted,
    ExpiredGeneration,
    Gap,
    HubClosed,
    HubFull,
    Outcome,
    SourceFailed,
    TooManyGenerations,
    TooManySubscribers,
    TranscriptFull,
    UnknownGeneration,
)
from trioproxy.gateway import Forbidden, RateLimited, Unauthorized
from trioproxy.upstream import (
    UnknownModel,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamNotStreaming,
    UpstreamRefused,
    UpstreamSilent,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from trioproxy.web.admission import Overloaded, PromptTooLarge
from trioproxy.web.connection import current_request
from trioproxy.web.places import ClusterDown
from trioproxy.web.responses import upstream_response
from trioproxy.wire import BadRequest, Failure, error_dialect_for

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 1


class FailedElsewhere(SourceFailed):
    """Another node could not have the answer; its ``failure`` is told here as it is there."""

    def __init__(self, reason: str, failure: Failure) -> None:
        super().__init__(reason, failure.message)
        self.failure = failure


class Mismatch(Exception):
    """The request names a generation that was started by another path or body."""


STATUSES: dict[type[Exception], tuple[int, str, str]] = {
    BadRequest: (400, "invalid_request_error", "bad_request"),
    Unauthorized: (401, "authentication_error", "invalid_api_key"),
    Forbidden: (403, "permission_error", "not_an_admin"),
    UnknownGeneration: (404, "invalid_request_error", "generation_not_found"),
    UnknownModel: (404, "invalid_request_error", "model_not_found"),
    Mismatch: (409, "invalid_request_error", "generation_mismatch"),
    CursorAhead: (409, "invalid_request_error", "event_not_reached"),
    ExpiredGeneration: (410, "invalid_request_error", "generation_expired"),
    PromptTooLarge: (413, "invalid_request_error", "prompt_too_large"),
    RateLimited: (429, "rate_limit_error", "rate_limit_exceeded"),
    TooManyGenerations: (429, "rate_limit_error", "too_many_generations"),
    TooManySubscribers: (429, "rate_limit_error", "too_many_subscribers"),
    UpstreamBroken: (502, "upstream_error", "upstream_broken"),
    UpstreamNotStreaming: (502, "upstream_error", "upstream_not_streaming"),
    UpstreamUnreachable: (502, "upstream_error", "upstream_unreachable"),
    TranscriptFull: (502, "upstream_error", "answer_too_large"),
    HubFull: (503, "server_error", "overloaded"),
    Overloaded: (503, "server_error", "overloaded"),
    HubClosed: (503, "server_error", "shutting_down"),
    ClusterDown: (503, "server_error", "cluster_unavailable"),
    UpstreamBusy: (503, "server_error", "upstream_busy"),
    UpstreamUnavailable: (503, "server_error", "upstream_unavailable"),
    UpstreamSilent: (504, "upstream_error", "upstream_timeout"),
}
"""Each error that a request can meet: the HTTP status, and OpenAI's ``type`` and ``code``."""

HTTP_CODES = {408: "request_timeout", 413: "body_too_large"}


def failure_of(error: Exception) -> Failure:
    """The failure to tell for an error. One that nobody foresaw is told as such, and no more."""
    if isinstance(error, UpstreamRefused):
        return Failure(error.status, "upstream_error", str(error), "upstream_refused")
    if isinstance(error, FailedElsewhere):
        return error.failure
    for known, (status, kind, code) in STATUSES.items():
        if isinstance(error, known):
            param = error.param if isinstance(error, BadRequest) else None
            knows = isinstance(error, RateLimited | UpstreamUnavailable)
            retry_after = error.retry_after if knows else None
            return Failure(status, kind, str(error), code, param, retry_after)
    if isinstance(error, HTTPException) and error.code is not None:
        code = HTTP_CODES.get(error.code, error.name.lower().replace(" ", "_"))
        return Failure(error.code, "invalid_request_error", error.description or error.name, code)
    return Failure(500, "server_error", "an internal error of the proxy", "internal_error")


def failure_of_end(end: Outcome | Evicted) -> Failure:
    """The failure to tell where a generation ended without completing, or a reader was sent
    away."""
    if isinstance(end, Evicted):
        return EVICTIONS[end.reason]
    if end.kind == "cancelled":
        return CANCELLATIONS.get(end.reason or "", CANCELLED)
    if end.reason in FAILURES:
        return FAILURES[end.reason]
    return failure_of(end.error or SourceFailed("internal", "the upstream failed"))


def failure_of_gap(gap: Gap) -> Failure:
    """The failure to tell on a route whose clients know no gaps."""
    return Failure(
        410,
        "server_error",
        f"events {gap.first} to {gap.last} are no longer held: this reader fell too far behind",
        "overtaken",
    )


CANCELLED = Failure(410, "server_error", "the generation was stopped", "cancelled")
CANCELLATIONS = {
    "shutdown": Failure(
        503, "server_error", "the proxy is shutting down: try again", "shutting_down"
    ),
    "reloaded": Failure(
        503, "server_error", "the proxy has been given other settings: come back", "reloaded"
    ),
    "deadline": Failure(504, "server_error", "the generation ran for too long", "deadline"),
}
EVICTIONS = {
    "slow": Failure(410, "server_error", "this reader fell too far behind", "evicted_slow"),
    "limit": Failure(429, "rate_limit_error", "a limit was reached", "evicted_limit"),
    "draining": Failure(503, "server_error", "the proxy is shutting down: try again", "draining"),
}
FAILURES = {
    "truncated": Failure(
        502,
        "upstream_error",
        "the upstream's stream ended before it was complete",
        "upstream_truncated",
    ),
    "owner_lost": Failure(
        503,
        "server_error",
        "the node that made the call is gone: try again",
        "owner_lost",
    ),
    "broker_lost": Failure(
        503,
        "server_error",
        "this node has lost its cluster: try again",
        "broker_lost",
    ),
    "expired": Failure(
        410,
        "invalid_request_error",
        "the generation has ended, and its events are no longer held",
        "generation_expired",
    ),
    "upstream_error": Failure(
        502, "upstream_error", "the upstream reported an error in its stream", "upstream_error"
    ),
}


async def respond_to_error(error: Exception) -> Response:  # noqa: ASYNC124 - or Quart takes a thread
    """The response to a request that failed before its first byte, in the dialect of its route."""
    if isinstance(error, UpstreamRefused):
        return _respond_as_refused(error)
    failure = failure_of(error)
    if failure.status == 500:
        logger.error("a request crashed", exc_info=error)
    response = _respond(failure)
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = f'{error.scheme} realm="trioproxy"'
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return response


def respond_to_end(end: Outcome | Evicted) -> Response:
    """The response to a request whose generation ended without completing, before its first
    byte."""
    if isinstance(end, Outcome) and isinstance(end.error, UpstreamRefused):
        return _respond_as_refused(end.error)
    return _respond(failure_of_end(end))


def respond_to_gap(gap: Gap) -> Response:
    """The response to a request whose answer can no longer be had from its start."""
    return _respond(failure_of_gap(gap))


def _respond_as_refused(error: UpstreamRefused) -> Response:
    return upstream_response(error.status, error.headers, [error.body])


def _respond(failure: Failure) -> Response:
    # A WebSocket's handshake is no request to Quart, but is refused here too.
    path = current_request().path if has_request_context() else ""
    dialect = error_dialect_for(path)
    response = Response(
        dialect.error_body(failure), failure.status, content_type="application/json"
    )
    if failure.status in (429, 503):
        seconds = failure.retry_after or RETRY_AFTER_SECONDS
        response.headers["Retry-After"] = str(math.ceil(seconds))
        response.headers["Retry-After-Ms"] = str(math.ceil(seconds * 1000))  # of the official SDKs
    if failure.status in (409, 410):
        # The official SDKs try a 409 again by themselves; here the answer would not change.
        response.headers["X-Should-Retry"] = "false"
    return response
