"""What every test of the client needs."""

import random
import ssl

import httpx
import pytest

NO_TRUST = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.fixture(autouse=True)
def certificates_are_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody speaks TLS here, and loading the certificate store takes longer than most tests."""

    def create_ssl_context(*, trust_env: bool) -> ssl.SSLContext:
        return NO_TRUST

    monkeypatch.setattr(httpx, "create_ssl_context", create_ssl_context)


@pytest.fixture(autouse=True)
def jitter_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every delay is the longest that could be drawn, so that runs and times are the same."""

    def uniform(a: float, b: float) -> float:
        return b

    monkeypatch.setattr(random, "uniform", uniform)
