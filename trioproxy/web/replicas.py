"""What a generation is to other nodes, as bytes: what it was asked for, its head, its failure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple

import msgspec
import trio

from trioproxy.fanout import Generation, Outcome, SourceFailed
from trioproxy.upstream import Head, UpstreamRefused
from trioproxy.upstream.feed import OUTCOMES
from trioproxy.web.asking import Asking, Origin
from trioproxy.web.calls import response_id_of
from trioproxy.web.failures import FailedElsewhere, failure_of
from trioproxy.wire import Failure, Message, Tally, dialect_for

Pairs = list[tuple[bytes, bytes]]


class About(msgspec.Struct, array_like=True, frozen=True):
    """What a generation was asked for. ``key`` is what others join it by, None if nobody can."""

    tenant: str
    path: str
    model: str | None
    streamed: bool
    fingerprint: bytes
    key: bytes | None

    def origin(self) -> Origin:
        """The origin of a replica that nobody here asked for but by its id."""
        dialect = dialect_for(self.path)
        assert dialect is not None
        return Origin(
            self.path,
            dialect,
            self.model,
            self.streamed,
            self.fingerprint,
            Tally(dialect),
            trio.current_time(),
            {},
            is_replica=True,
        )


class _Head(msgspec.Struct, array_like=True):
    status: int
    headers: Pairs
    upstream: str


class _Error(msgspec.Struct, array_like=True):
    reason: str
    failure: tuple[int, str, str, str, str | None, float | None]
    refusal: tuple[int, Pairs, bytes] | None


_encode = msgspec.msgpack.Encoder().encode
_decode_about = msgspec.msgpack.Decoder(About).decode
_decode_head = msgspec.msgpack.Decoder(_Head).decode
_decode_error = msgspec.msgpack.Decoder(_Error).decode


def pack_about(asking: Asking, key: bytes | None) -> bytes:
    """What others are told of a generation that is asked for."""
    origin = asking.origin
    return _encode(
        About(asking.tenant, origin.path, origin.model, origin.streamed, origin.fingerprint, key)
    )


def unpack_about(data: bytes) -> About:
    """Raises :exc:`ValueError` where it was packed by another version."""
    about = _decode_about(data)
    if dialect_for(about.path) is None:
        raise ValueError(f"no dialect is spoken on {about.path}")
    return about


def reader_of(origin: Origin) -> Callable[[Message], Outcome | None]:
    """Takes note of each message of a replica, and finds what a stream's own end decides."""
    count, verdict = origin.tally.count, origin.dialect.verdict

    def read(message: Message) -> Outcome | None:
        count(message)
        decided = verdict(message) if origin.streamed else None
        return OUTCOMES[decided] if decided else None

    return read


class ReplicaCodec:
    """See :class:`~trioproxy.cluster.Codec`."""

    def pack_head(self, head: object) -> bytes:
        assert isinstance(head, Head)
        return _encode(_Head(head.status, head.headers, head.upstream))

    def unpack_head(self, data: bytes) -> object:
        head = _decode_head(data)
        return Head(head.status, head.headers, upstream=head.upstream)

    def pack_error(self, error: Exception) -> bytes:
        reason = error.reason if isinstance(error, SourceFailed) else "internal"
        refusal = None
        if isinstance(error, UpstreamRefused):
            refusal = error.status, error.headers, error.body
        return _encode(_Error(reason, astuple(failure_of(error)), refusal))

    def unpack_error(self, data: bytes) -> SourceFailed:
        error = _decode_error(data)
        if error.refusal is not None:
            return UpstreamRefused(*error.refusal)
        return FailedElsewhere(error.reason, Failure(*error.failure))

    def alias(self, generation: Generation) -> str | None:
        return response_id_of(generation)
