"""What nodes tell each other of a generation, as bytes."""

from __future__ import annotations

import msgspec
import pytest

from trioproxy.web.replicas import About, unpack_about


@pytest.mark.parametrize(
    "told",
    [
        About("alice", "/v9/thoughts", None, True, b"", None),
        ["alice", "/v1/completions", None, True],
        {"tenant": "alice"},
    ],
    ids=["a path", "fewer fields", "a table"],
)
def test_what_another_version_tells_is_refused(told: object) -> None:
    with pytest.raises(ValueError, match=r"no dialect|Expected"):
        unpack_about(msgspec.msgpack.encode(told))
