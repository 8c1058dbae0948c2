"""The Responses API: numbers for events that lack them, and the response object as it stands."""

import json

import pytest

from trioproxy.wire import (
    OPENAI_RESPONSES,
    BadRequest,
    Failure,
    Message,
    in_foreground,
    number_of,
    snapshot_of,
    wants_background,
    with_status,
)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"type":"a","delta":" b"}', b'{"type":"a","delta":" b","sequence_number":7}'),
        (b"{}", b'{"sequence_number":7}'),
        (b' {"a":1}', b' {"a":1,"sequence_number":7}'),
        (b'{ "a" : {} } ', b'{ "a" : {},"sequence_number":7} '),
        (
            b'{"delta":"\\"sequence_number\\":1"}',
            b'{"delta":"\\"sequence_number\\":1","sequence_number":7}',
        ),
        (
            b'{"item":{"sequence_number":1}}',
            b'{"item":{"sequence_number":1},"sequence_number":7}',
        ),
        (b'{"delta":"\xe5\xb7\x9d"}', b'{"delta":"\xe5\xb7\x9d","sequence_number":7}'),
    ],
)
def test_an_event_without_a_number_gets_one_and_keeps_every_other_byte(
    data: bytes, expected: bytes
) -> None:
    assert OPENAI_RESPONSES.numbered is not None

    assert expected == OPENAI_RESPONSES.numbered(data, 7)
    assert number_of(expected) == 7


@pytest.mark.parametrize(
    "data",
    [
        b'{"sequence_number":3,"delta":"a"}',
        b'{"delta":"a","sequence_number": 0}',
        b"[DONE]",
        b"",
        b"[1]",
        b'"}"',
        b'{"a":1',
        b"{abc}",
        b'{"a":1}}',
        b'{"sequence_number":"x"}',
    ],
)
def test_what_has_a_number_or_no_place_for_one_stays_as_it_is(data: bytes) -> None:
    assert OPENAI_RESPONSES.numbered is not None

    assert data == OPENAI_RESPONSES.numbered(data, 7)


def test_a_failure_goes_on_with_the_numbers() -> None:
    (message,) = OPENAI_RESPONSES.failure(Failure(502, "upstream_error", "gone", "broken"), 12)

    assert message.name == b"error"
    assert json.loads(message.data) == {
        "type": "error",
        "code": "broken",
        "message": "gone",
        "param": None,
        "sequence_number": 12,
        "error": {"type": "upstream_error", "code": "broken", "message": "gone", "param": None},
    }


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"type":"x","response":{"id": "r"},"n":1}', b'{"id": "r"}'),
        (b'{"response":null}', None),
        (b'{"response":"text"}', None),
        (b'{"delta":"\\"response\\":{}"}', None),
        (b"[DONE]", None),
        (b'{"response":{', None),
    ],
)
def test_the_response_object_is_handed_out_byte_for_byte(
    data: bytes, expected: bytes | None
) -> None:
    assert expected == snapshot_of(data)


def test_another_status_leaves_all_other_fields_as_they_were() -> None:
    response = b'{"id":"r","status":"in_progress","n":1.50,"x":{"y": [1]}}'

    assert with_status(response, "cancelled") == (
        b'{"id":"r","status":"cancelled","n":1.50,"x":{"y": [1]}}'
    )
    assert json.loads(with_status(response, "failed", Failure(502, "kind", "gone")))["error"] == {
        "code": "kind",
        "message": "gone",
    }


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Message(b"response.created", b'{"response":{"id":"resp_1"}}'), "resp_1"),
        (Message(b"response.created", b'{"response":{"id":1}}'), None),
        (Message(b"response.output_text.delta", b'{"delta":"response"}'), None),
    ],
)
def test_the_answer_is_named_by_the_response_object(message: Message, expected: str | None) -> None:
    assert expected == OPENAI_RESPONSES.answer_id(message)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"background":true}', True),
        (b'{"background":false}', False),
        (b'{"background":null}', False),
        (b"{}", False),
    ],
)
def test_a_call_says_whether_it_goes_on_in_the_background(body: bytes, expected: bool) -> None:
    assert expected == wants_background(body)


@pytest.mark.parametrize("value", [b"1", b'"true"', b"{}"])
def test_a_background_that_is_no_boolean_is_refused_by_name(value: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        wants_background(b'{"background":%b}' % value)

    assert caught.value.param == "background"


def test_the_engine_is_asked_for_a_stream_in_the_foreground() -> None:
    body = b'{"background": true, "input":"\\u5ddd", "n": 1.50, "stream":false}'

    assert in_foreground(body) == b'{"input":"\\u5ddd","n":1.50,"stream":true}'


def test_a_body_with_a_name_that_is_no_text_is_refused() -> None:
    body = b'{"\xed\xa0\x80":1,"background":true}'
    assert wants_background(body)

    with pytest.raises(BadRequest, match="not valid JSON"):
        in_foreground(body)
