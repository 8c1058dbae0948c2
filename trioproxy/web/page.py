"""The page: what a person sees who opens the proxy in a browser."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources

from quart_trio.wrappers import TrioResponse as Response
from werkzeug.exceptions import NotFound

from trioproxy.web.connection import current_request

INDEX = "index.html"

CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The page is of the proxy's files and nothing else, whatever an engine may say
(https://www.w3.org/TR/CSP3/)."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of the page, and its entity tag."""

    content: bytes
    content_type: str
    etag: str


class Page:
    """``/`` and ``/page/{name}``: the files of the package's folder ``page``, which are held."""

    def __init__(self) -> None:
        self._files = _load_files()

    async def index(self) -> Response:  # noqa: ASYNC124 - or Quart takes a thread
        """The page itself."""
        return _respond(self._files[INDEX])

    async def file(self, name: str) -> Response:  # noqa: ASYNC124 - likewise
        """What it is made of. Raises :class:`~werkzeug.exceptions.NotFound`."""
        file = self._files.get(name)
        if file is None or name == INDEX:
            raise NotFound(f"the page has no file {name}")
        return _respond(file)


def _respond(file: File) -> Response:
    if file.etag in current_request().if_none_match:
        response = Response(b"", 304)
        del response.headers["Content-Type"], response.headers["Content-Length"]
    else:
        response = Response(file.content, content_type=file.content_type)
    response.set_etag(file.etag)
    # The files of two versions do not go together: so the browser asks each time, which is cheap.
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _load_files() -> dict[str, File]:
    files: dict[str, File] = {}
    for path in resources.files("trioproxy.web").joinpath("page").iterdir():
        suffix = path.name[path.name.rfind(".") :]
        if suffix in CONTENT_TYPES:
            content = path.read_bytes()
            etag = hashlib.sha256(content).hexdigest()[:32]
            files[path.name] = File(content, CONTENT_TYPES[suffix], etag)
    return files
