"""Requests in which others on their way might read another request, or two: what is smuggled in so
gets past whoever stands in front."""

from __future__ import annotations

import re

import h11

_ODD_LINE = re.compile(rb"(?<!\r)\n|\n[ \t]")


def is_ambiguous(request: h11.Request, head: bytes) -> bool:
    """Whether the head, as it came, is one that h11 takes and a server may refuse (RFC 9112).

    That is: a line that ends in a bare LF (section 2.2), one that goes on in the next (section
    5.2), and a body whose length is told twice, or in chunks to HTTP/1.0, which has none (section
    6.1).
    """
    names = {name for name, _ in request.headers}
    if b"transfer-encoding" in names and (
        b"content-length" in names or request.http_version == b"1.0"
    ):
        return True
    return _ODD_LINE.search(head) is not None
