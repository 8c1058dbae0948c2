"""What every test of the server needs."""

from __future__ import annotations

import gc
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx
import pytest
import trustme

from tests.serving.apps import ANSWERS, App

CERTIFICATES = httpx.create_ssl_context(trust_env=False)


@dataclass(frozen=True)
class TLS:
    """A server's certificate for 127.0.0.1, as files, and a client's context that trusts it."""

    certfile: str
    keyfile: str
    client: ssl.SSLContext


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
    return TLS(str(certfile), str(keyfile), client)


@pytest.fixture
def app() -> App:
    return App(ANSWERS)


@pytest.fixture(autouse=True)
async def what_is_left_to_the_collector_is_an_error() -> AsyncIterator[None]:
    """Collects inside the run, where an async generator that nobody finished still warns: when the
    run ends, Trio finishes those that are left without a word."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def certificates_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No upstream here speaks TLS, and loading the certificate store takes longer than a test."""
    monkeypatch.setattr(httpx, "create_ssl_context", lambda **_: CERTIFICATES)
    yield
