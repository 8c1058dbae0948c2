"""Lists of models: what is read of an engine's, and what clients are told."""

from __future__ import annotations

import json

import pytest

from trioproxy.wire import models_body, read_models, unlisted_model


def test_entries_are_read_as_they_are() -> None:
    body = b'{"object":"list","data":[{"id":"a","x":[1]},{"id":7},{"object":"model"},{"id":"b"}]}'

    assert read_models(body) == [{"id": "a", "x": [1]}, {"id": "b"}]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data":{}}', b'{"data":[1]}', b"[" * 9_999])
def test_what_is_no_list_of_models_has_none(body: bytes) -> None:
    assert read_models(body) == []


def test_clients_of_both_apis_find_what_they_look_for() -> None:
    listed = json.loads(models_body([unlisted_model("a"), unlisted_model("b")]))

    assert [model["id"] for model in listed["data"]] == ["a", "b"]
    assert (listed["object"], listed["has_more"]) == ("list", False)
    assert (listed["first_id"], listed["last_id"]) == ("a", "b")
    assert json.loads(models_body([]))["first_id"] is None
