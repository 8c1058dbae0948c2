"""What every test of the routes needs."""

import ssl

import httpx
import pytest

CERTIFICATES = httpx.create_ssl_context(trust_env=False)


@pytest.fixture(autouse=True)
def certificates_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody speaks TLS here, and loading the certificate store takes longer than most tests."""

    def create_ssl_context(*, trust_env: bool) -> ssl.SSLContext:
        return CERTIFICATES

    monkeypatch.setattr(httpx, "create_ssl_context", create_ssl_context)
