"""What every test of the server needs."""

from __future__ import annotations

import gc
import ssl
from collections.abc import Generator
from functools import wraps

import httpx
import pytest
import trustme

from tests.serving.apps import ANSWERS, TLS, App

CERTIFICATES = httpx.create_ssl_context(trust_env=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Function) -> Generator[None, object, object]:
    """Have each test end with a collection inside its run, so that what it left to the garbage
    collector fails it.

    When a run ends, Trio finishes the async generators that are left without a word. It is no
    fixture, because pytest-trio enters no asynchronous one that a test does not name.
    """
    test = item.obj

    @wraps(test)
    async def test_and_collect(**fixtures: object) -> None:
        try:
            await test(**fixtures)
        finally:
            gc.collect()

    item.obj = test_and_collect
    return (yield)


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TLS:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certfile, keyfile = folder / "certificate.pem", folder / "key.pem"
    keyfile.write_bytes(certificate.private_key_pem.bytes())
    certfile.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    client = ssl.create_default_context()
    authority.configure_trust(client)  # pyright: ignore[reportUnknownMemberType]
    client.set_alpn_protocols(["h2", "http/1.1"])  # as browsers do
    return TLS(str(certfile), str(keyfile), client)


@pytest.fixture
def app() -> App:
    return App(ANSWERS)


@pytest.fixture(autouse=True)
def certificates_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No upstream here speaks TLS, and loading the certificate store takes longer than a test."""

    def loaded_before(**_: object) -> ssl.SSLContext:
        return CERTIFICATES

    monkeypatch.setattr(httpx, "create_ssl_context", loaded_before)
