"""What names, keys and headers may look like, wherever a table of the file has one."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

HASHED = "sha256:"
"""How the hash of a key begins in the file."""

NAME_EXPECTED = "up to 64 letters, digits, dots, dashes and underscores"
KEY_EXPECTED = "visible ASCII characters without a space"

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"
_KEY = r"^[!-~]+\Z"
_KEY_HASH = rf"^{HASHED}[0-9a-f]{{64}}\Z"
_HEADER = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z"
_VALUE = r"^[ -~]*\Z"
_PATH = r'^/[!-"$-~]*\Z'

Name = Annotated[str, Meta(pattern=_NAME)]
# It becomes a header's value: the newline that ends a file would break the request.
Key = Annotated[str, Meta(pattern=_KEY)]
KeyHash = Annotated[str, Meta(pattern=_KEY_HASH)]
HeaderName = Annotated[str, Meta(pattern=_HEADER)]
HeaderValue = Annotated[str, Meta(pattern=_VALUE)]
Path = Annotated[str, Meta(pattern=_PATH)]

EXPECTED = {
    _NAME: NAME_EXPECTED,
    _KEY: KEY_EXPECTED,
    _KEY_HASH: "the hash of a key, as `trioproxy make-key` prints it",
    _HEADER: "the name of a header",
    _VALUE: "printable ASCII characters",
    _PATH: "a path such as /health",
}
"""Each pattern, in words."""
