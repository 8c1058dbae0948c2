"""What a broker's URL says."""

from __future__ import annotations

from pathlib import Path

import pytest

from trioproxy.cluster.address import Address, parse_address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://cache", Address((("cache", 6379),))),
        ("valkey://cache:7000/2", Address((("cache", 7000),), db=2)),
        ("redis://[::1]:7000/", Address((("::1", 7000),))),
        ("redis://me:p%40ss%2F%3A@h", Address((("h", 6379),), "me", "p@ss/:")),
        ("redis://:secret@h", Address((("h", 6379),), None, "secret")),
        ("rediss://h", Address((("h", 6379),))),
        ("valkeys://h:7000", Address((("h", 7000),))),
        (
            "redis://me:pw@a,b:7000,[::1]/1?sentinel=main",
            Address((("a", 26379), ("b", 7000), ("::1", 26379)), "me", "pw", 1, None, "main"),
        ),
        (
            "valkey://a,b:7000?cluster=16",
            Address((("a", 6379), ("b", 7000)), is_cluster=True, lanes=16),
        ),
        ("redis://a/0?cluster=1", Address((("a", 6379),), is_cluster=True)),
    ],
)
def test_a_url_says_where_and_who(url: str, address: Address) -> None:
    assert parse_address(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "h:6379",
        "redis://",
        "redis://:6379",
        "redis://h:port",
        "redis://h:70000",
        "redis://h/base",
        "redis://h/-1",
        "redis://a,b",
        "redis://a,?sentinel=main",
        "redis://h?timeout=3",
        "redis://h?ca=/a",
        "redis://h?cluster=",
        "redis://h?cluster=0",
        "redis://h?cluster=65",
        "redis://h?cluster=many",
        "redis://h/1?cluster=4",
        "redis://h?cluster=4&sentinel=main",
    ],
)
def test_a_url_that_says_something_else_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"a broker's URL|has no TLS"):
        parse_address(url)


def test_only_what_is_with_tls_has_a_context(tmp_path: Path) -> None:
    assert parse_address("redis://h").ssl_context is None
    assert parse_address("valkey://h").ssl_context is None
    for url in ("rediss://h", "valkeys://h"):
        context = parse_address(url).ssl_context
        assert context is not None
        assert context.check_hostname
    with pytest.raises(FileNotFoundError):
        parse_address(f"rediss://h?ca={tmp_path / 'none.pem'}")


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(parse_address("redis://me:secret@h"))
    for url in ("redis://me:secret@h/base", "redis://me:secret#@h", "redis://me:secret@h?x=1"):
        with pytest.raises(ValueError, match="broker") as refused:
            parse_address(url)
        assert "secret" not in str(refused.value)
