"""The steps that a broker takes as one, in Lua: a file each, and what all of them begin with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Script:
    """One of them. The broker knows it by its SHA-1 once it has run it."""

    source: bytes
    sha1: bytes


@cache
def script(name: str) -> Script:
    """The script of this name. It is read once."""
    flags, _, body = (_FOLDER / f"{name}.lua").read_text().partition("\n")
    source = f"{flags}\n{(_FOLDER / 'prelude.lua').read_text()}\n{body}".encode()
    return Script(source, hashlib.sha1(source, usedforsecurity=False).hexdigest().encode())
