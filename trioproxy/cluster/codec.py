"""What generations carry that this package does not look into, as bytes for other nodes."""

from __future__ import annotations

from typing import Protocol

from trioproxy.fanout import Generation, SourceFailed


class Codec(Protocol):
    """Packs a head, and what a failed source raised; and has them again at another node. The
    ``alias`` of a generation is another name by which nodes find it, None while it has none."""

    def pack_head(self, head: object) -> bytes: ...

    def unpack_head(self, data: bytes) -> object: ...

    def pack_error(self, error: Exception) -> bytes: ...

    def unpack_error(self, data: bytes) -> SourceFailed: ...

    def alias(self, generation: Generation) -> str | None: ...
