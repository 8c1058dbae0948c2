"""Requests that h11 takes and this server refuses (RFC 9112).

In some of them others on their way might read another request, or two: what is smuggled in so gets
past whoever stands in front. The rest would crash who reads them here: a connection, or a request
before anybody is there to answer it.
"""

from __future__ import annotations

import re

import h11

_ODD_LINE = re.compile(rb"(?<!\r)\n|\n[ \t]")
_LABEL = rb"[A-Za-z0-9_~!$&'()*+,;=%-]{1,63}"
_HOST = re.compile(rb"((%b\.)*%b\.?|\[[0-9A-Fa-f:.]+\])?(:[0-9]*)?" % (_LABEL, _LABEL))
_LISTS = frozenset({b"connection", b"sec-websocket-protocol"})
"""What hypercorn takes apart in a handshake, as ASCII."""


def is_to_be_refused(request: h11.Request, head: bytes) -> bool:
    """Whether to answer a request with 400; ``head`` is its head as it came."""
    return (
        _tells_two_lengths(request)
        or _ODD_LINE.search(head) is not None  # bare LF, folding: sections 2.2 and 5.2
        or any(
            name == b"host" and _HOST.fullmatch(value) is None  # section 3.2
            for name, value in request.headers
        )
        or any(name in _LISTS and not value.isascii() for name, value in request.headers)
    )


def _tells_two_lengths(request: h11.Request) -> bool:
    """In chunks and by number, or in chunks to HTTP/1.0, which has none (section 6.1)."""
    names = {name for name, _ in request.headers}
    is_in_chunks = b"transfer-encoding" in names
    return is_in_chunks and (b"content-length" in names or request.http_version == b"1.0")
