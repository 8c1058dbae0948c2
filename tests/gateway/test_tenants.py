"""Who a request comes from."""

from __future__ import annotations

import base64
import contextlib

import pytest

from trioproxy.config import Gateway, TenantEntry
from trioproxy.gateway import Tenant, Tenants, Unauthorized, hash_key, make_key

ALICE, ALICES_OTHER, ROOT = b"tp-alice", b"tp-alice-2", b"tp-root"
GATEWAY = Gateway(
    tenants=(
        TenantEntry(name="alice", keys=(hash_key(ALICE), hash_key(ALICES_OTHER))),
        TenantEntry(name="root", keys=(hash_key(ROOT),), admin=True),
    )
)
Pairs = list[tuple[bytes, bytes]]


def basic(user: bytes, password: bytes) -> bytes:
    return b"Basic " + base64.b64encode(user + b":" + password)


@pytest.mark.parametrize(
    ("headers", "tenant"),
    [
        ([(b"authorization", b"Bearer " + ALICE)], Tenant("alice", is_admin=False)),
        ([(b"authorization", b"bearer  " + ALICES_OTHER)], Tenant("alice", is_admin=False)),
        ([(b"x-api-key", ALICE)], Tenant("alice", is_admin=False)),
        ([(b"api-key", ROOT)], Tenant("root", is_admin=True)),
        ([(b"x-goog-api-key", ROOT)], Tenant("root", is_admin=True)),
        ([(b"authorization", basic(b"anyone", ROOT))], Tenant("root", is_admin=True)),
        (
            [(b"authorization", b"Bearer " + ALICE), (b"x-api-key", ALICE)],
            Tenant("alice", is_admin=False),
        ),
    ],
)
def test_a_key_tells_whose_it_is(headers: Pairs, tenant: Tenant) -> None:
    assert Tenants(GATEWAY).identify(headers) == tenant


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer " + ALICE + b"x")],
        [(b"authorization", b"Bearer " + hash_key(ALICE).encode())],
        [(b"authorization", ALICE)],
        [(b"authorization", b"Basic " + ALICE)],
        [(b"authorization", b"Basic %%%")],
        [(b"authorization", basic(ALICE, b""))],
        [(b"x-api-key", b"\xff\x00")],
        [(b"cookie", ALICE)],
        [(b"authorization", b"Bearer " + ALICE), (b"x-api-key", ROOT)],
        [(b"authorization", b"Bearer " + ALICE), (b"authorization", b"Bearer " + ROOT)],
        [(b"authorization", b"Bearer x"), (b"x-api-key", ALICE)],
    ],
)
def test_what_is_no_key_or_not_one_key_is_refused(headers: Pairs) -> None:
    with pytest.raises(Unauthorized):
        Tenants(GATEWAY).identify(headers)


def test_without_tenants_each_credential_is_a_tenant_and_none_is_an_operator() -> None:
    tenants = Tenants(Gateway())
    found = [
        tenants.identify(headers)
        for headers in ([], [(b"x-api-key", b"a")], [(b"authorization", b"a")], [(b"cookie", b"a")])
    ]

    assert tenants.is_open
    assert len({tenant.name for tenant in found}) == 3
    assert found[0] == found[3]
    assert not any(tenant.is_admin for tenant in found)


def test_keys_are_new_each_time_and_only_their_hash_is_kept() -> None:
    key = make_key()

    assert key != make_key()
    assert key.startswith("tp-")
    assert len(key) > 40
    assert TenantEntry(name="a", keys=(hash_key(key.encode()),)).keys[0].startswith("sha256:")


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Basic !!")],
        [(b"x-api-key", b"")],
        [(b"x-api-key", b""), (b"authorization", b"Bearer " + ALICE)],
    ],
)
def test_nothing_is_no_key_whatever_the_file_says(headers: Pairs) -> None:
    careless = TenantEntry(name="careless", keys=(hash_key(b""),), admin=True)

    with pytest.raises(Unauthorized):
        Tenants(Gateway(tenants=(careless, *GATEWAY.tenants))).identify(headers)


def test_a_key_is_compared_with_every_known_one_and_in_constant_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[bytes] = []

    def compare(known: bytes, presented: bytes) -> bool:
        compared.append(known)
        return known == presented

    tenants = Tenants(GATEWAY)
    monkeypatch.setattr("trioproxy.gateway.tenants.hmac.compare_digest", compare)
    everybody = [key.encode() for tenant in GATEWAY.tenants for key in tenant.keys]

    for key in (ALICE, ROOT, b"tp-mallory"):
        compared.clear()
        with contextlib.suppress(Unauthorized):
            tenants.identify([(b"x-api-key", key)])
        assert compared == everybody
