"""Every other path of the API: forwarded to the upstream as it is, and never shared."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from types import TracebackType

from quart.wrappers.response import ResponseBody
from quart_trio.wrappers import TrioResponse as Response
from werkzeug.routing import PathConverter

from trioproxy.gateway import Forbidden
from trioproxy.upstream import (
    Answer,
    Router,
    answer_headers,
    trace_context,
)
from trioproxy.web.admission import Admission
from trioproxy.web.connection import current_request
from trioproxy.web.responses import copy_headers
from trioproxy.wire import ROUTES, BadRequest, read_call

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

ANSWERED_HERE = "|".join(re.escape(path.removeprefix("/")) for path in ROUTES)


class ForwardedPath(PathConverter):
    """A path below ``/v1/`` or ``/api/`` that the proxy has no route for, whatever the method: what
    has one takes the methods of that one and no other."""

    regex = rf"(?!(?:{ANSWERED_HERE})\Z|v1/generations(?:/|\Z)|v1/ws\Z)(?:v1|api)/[^/].*?"


_FOR_EVERY_TENANT = re.compile(
    "(GET|HEAD) (v1/models(/[^/]+)*|api/(tags|version|ps))"
    "|POST (v1/(embeddings|moderations|rerank|reranking|tokenize|detokenize|messages/count_tokens"
    "|audio/(speech|transcriptions|translations)|images/generations)"
    "|api/(show|embed|embeddings))"
)
"""Of the rest much is about what an engine keeps (files, batches, stored answers, the models
themselves), and to it all tenants are one."""


class Forward:
    """Whatever the proxy has no route for. The call belongs to the request and ends with it."""

    def __init__(self, router: Router, admission: Admission) -> None:
        self._router = router
        self._admission = admission

    async def answer(self, path: str) -> Response:
        request = current_request()
        if _could_lead_elsewhere(path):
            raise BadRequest("the path must not contain empty, . or .. segments, nor backslashes")
        is_harmless = _FOR_EVERY_TENANT.fullmatch(f"{request.method} {path}")
        if not (request.caller.is_operator or is_harmless):
            raise Forbidden("what the engine keeps is everybody's: only an admin may ask for this")
        self._admission.check_load()
        await self._admission.let_in(request.caller.tenant)
        body = await request.read_body()
        context = trace_context(request.header_pairs)
        call = request.caller.request(request.method, request.target, body, context)
        answer = await request.exit_stack.enter_async_context(
            self._router.forward(_model_in(body), call)
        )
        response = Response(AnswerBody(answer), answer.head.status)
        length = [pair for pair in answer.head.headers if pair[0] == b"content-length"]
        copy_headers(response, answer_headers(answer.head.headers) + length)
        return response


def _model_in(body: bytes) -> str | None:
    """The model that a body names, if it is one that names models."""
    try:
        return read_call(body).model
    except BadRequest:
        return None


_BACKSLASH_OR_CONTROL = re.compile(r"[\\\x00-\x1f\x7f]")


def _could_lead_elsewhere(path: str) -> bool:
    """Whether some server may read it as another path. To a few a segment ends at a ; or at NUL,
    and a backslash is a slash."""
    names = [segment.partition(";")[0] for segment in path.split("/")]
    is_odd = _BACKSLASH_OR_CONTROL.search(path) is not None
    return is_odd or "" in names[:-1] or not {".", ".."}.isdisjoint(names)


class AnswerBody(ResponseBody):
    """The body of the upstream's answer, chunk by chunk, at the pace of the client."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def __aenter__(self) -> AsyncIterator[bytes]:
        return self._answer

    async def __aexit__(self, exc_type: type, exc_value: BaseException, tb: TracebackType) -> None:
        pass
