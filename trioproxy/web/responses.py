"""The responses that more than one route gives."""

from __future__ import annotations

import msgspec
from quart_trio.wrappers import TrioResponse as Response

from trioproxy.fanout import Generation
from trioproxy.upstream import HeaderPairs, answer_headers, passed_back


def json_response(value: object, status: int = 200) -> Response:
    """``value`` as JSON."""
    return Response(msgspec.json.encode(value), status, content_type="application/json")


def name_generation(response: Response, generation: Generation) -> None:
    """Tell with an answer which generation it is from, and where that can be stopped for everyone
    (Web Linking, RFC 8288)."""
    response.headers["X-Generation-Id"] = generation.id
    response.headers.add("Link", f'</v1/generations/{generation.id}>; rel="cancel"')


def upstream_response(status: int, headers: HeaderPairs, pieces: list[bytes]) -> Response:
    """The upstream's own answer, less what described its connection to us. Nothing is copied."""
    response = Response(pieces, status)
    copy_headers(response, answer_headers(headers))
    response.headers["Content-Length"] = str(sum(map(len, pieces)))
    return response


def tell_of_call(response: Response, headers: HeaderPairs) -> None:
    """Tell with an answer of our own form what the upstream told of its call."""
    for name, value in passed_back(headers):
        response.headers.add(name.decode("latin-1"), value.decode("latin-1"))


def copy_headers(response: Response, headers: HeaderPairs) -> None:
    """Give the response exactly these end-to-end headers; it has no type but the one they name."""
    del response.headers["Content-Type"]
    for name, value in headers:
        response.headers.add(name.decode("latin-1"), value.decode("latin-1"))
