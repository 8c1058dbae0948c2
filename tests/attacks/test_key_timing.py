"""Guessing a key byte by byte, by how long the refusal takes."""

from __future__ import annotations

import hmac
from contextlib import suppress

import pytest

from tests.web.test_door import GATEWAY
from trioproxy.gateway import Tenants, Unauthorized, hash_key

KNOWN = [key.encode() for entry in GATEWAY.tenants for key in entry.keys]


@pytest.mark.parametrize(
    "key", [b"tp-alice", b"tp-root", b"tp-alicf", b"t", b"tp-alice" * 1000, b"\xff", b" "]
)
def test_each_key_is_compared_with_every_other_by_digests_of_one_length(
    key: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare_digest(known: bytes, presented: bytes) -> bool:
        compared.append((known, presented))
        return known == presented

    tenants = Tenants(GATEWAY)
    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    with suppress(Unauthorized):
        tenants.identify([(b"authorization", b"Bearer " + key)])

    digest = hash_key(key.strip()).encode()
    assert compared == ([(known, digest) for known in KNOWN] if key.strip() else [])
    assert {len(known) for known in KNOWN} == {len(digest)}
