"""What every test of the routes needs."""

import httpx
import pytest

CERTIFICATES = httpx.create_ssl_context(trust_env=False)


@pytest.fixture(autouse=True)
def certificates_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody speaks TLS here, and loading the certificate store takes longer than most tests."""
    monkeypatch.setattr(httpx, "create_ssl_context", lambda **_: CERTIFICATES)
