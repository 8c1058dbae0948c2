"""What is read in a request body, and how a body that cannot be read is refused."""

import contextlib
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trioproxy.wire import BadRequest, Call, read_call, with_model, with_stream


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", Call(stream=None, model=None)),
        (b'{"stream":true,"model":"tiny"}', Call(stream=True, model="tiny")),
        (b' {\r\n"model" : "tiny" , "stream" : false } \n', Call(stream=False, model="tiny")),
        (b'{"stream":null,"model":null}', Call(stream=None, model=None)),
        (b'{"stream":true,"stream":false}', Call(stream=False, model=None)),
        (b'{"\\u0073tream":true}', Call(stream=True, model=None)),
        (b'{"model":"\\u5ddd\xe5\xb7\x9d"}', Call(stream=None, model="川川")),
        (b'{"model":""}', Call(stream=None, model="")),
        (b'{"Stream":1,"options":{"stream":1,"model":2}}', Call(stream=None, model=None)),
        (b'{"prompt":"\\"stream\\":1","n":1e999}', Call(stream=None, model=None)),
    ],
)
def test_stream_and_model_are_read(body: bytes, expected: Call) -> None:
    assert expected == read_call(body)


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        (b"", "not valid JSON", None),
        (b"stream=true", "not valid JSON", None),
        (b'{"stream":true', "not valid JSON", None),
        (b'{"stream":tru}', "not valid JSON", None),
        (b'{"stream":true} {}', "not valid JSON", None),
        (b"\xff\xfe{\x00}\x00", "not valid JSON", None),
        (b"[]", "must be a JSON object", None),
        (b"null", "must be a JSON object", None),
        (b'"stream"', "must be a JSON object", None),
        (b"[" * 100_000, "must be a JSON object", None),
        (b'{"messages":' + b"[" * 100_000, "nested too deeply", None),
        (b'{"stream":1}', "'stream' must be true, false or null", "stream"),
        (b'{"stream":"true"}', "'stream' must be true, false or null", "stream"),
        (b'{"stream":{}}', "'stream' must be true, false or null", "stream"),
        (b'{"model":1}', "'model' must be a string or null", "model"),
        (b'{"model":["tiny"]}', "'model' must be a string or null", "model"),
        (b'{"model":"\xff"}', "'model' must be a string or null", "model"),
        (b'{"stream":1,"model":1}', "'stream' must be", "stream"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_body_that_cannot_be_read_is_refused_by_what_is_wrong(
    body: bytes, message: str, param: str | None
) -> None:
    with pytest.raises(BadRequest, match=message) as refused:
        read_call(body)

    assert param == refused.value.param


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", b'{"stream":true}'),
        (b" { } ", b' {"stream":true} '),
        (b'{"prompt":"a"}', b'{"prompt":"a","stream":true}'),
        (b'{"a":{}}\n', b'{"a":{},"stream":true}\n'),
        (b'{"a":"{"}', b'{"a":"{","stream":true}'),
        (b'{"stream":null, "b": 1 }', b'{"stream":null, "b": 1,"stream":true}'),
        (b'{"\xff":1}', b'{"\xff":1,"stream":true}'),
    ],
)
def test_stream_is_spliced_into_a_body_that_does_not_say_it(body: bytes, expected: bytes) -> None:
    assert with_stream(body) == expected
    assert read_call(expected).stream is True


@settings(deadline=None)
@given(
    st.binary(max_size=30)
    | st.lists(
        st.sampled_from(
            [b"{", b"}", b"[", b'"', b'"stream"', b'"model"', b":", b",", b"1", b"true"]
        ),
        max_size=12,
    ).map(b"".join)
)
def test_any_body_is_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(BadRequest):
        assert isinstance(read_call(body), Call)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"a"}', b'{"model":"x/\xc3\xa9"}'),
        (b' { "n": 1.50 , "model"\t: "a\\"b" ,"m":[ {"model":"a"}] } ', None),
        (b'{"prompt":"\xe2\x80\xa8\\u2028","model":null,"z":1e999}', None),
        (b'{"mod\\u0065l":"a","b":"\xff"}', b'{"model":"x/\xc3\xa9","b":"\xff"}'),
        (b'{"n":' + 5_000 * b"9" + b',"model":"a"}', None),
        (b'{"model":"a","n":0,"model":"b"}', b'{"model":"x/\xc3\xa9","n":0}'),
        (b'{"a":1}', b'{"a":1,"model":"x/\xc3\xa9"}'),
        (b"{ }", b'{"model":"x/\xc3\xa9"}'),
    ],
)
def test_a_body_with_another_model_has_all_else_as_it_came(
    body: bytes, expected: bytes | None
) -> None:
    if expected is None:
        compact = re.sub(rb"\s*([:,{}])\s*", rb"\1", body)
        expected = re.sub(rb'"model":("a\\"b"|null|"a")', b'"model":"x/\xc3\xa9"', compact, count=1)
        expected = expected.replace(b"[{", b"[ {")

    assert with_model(body, "x/é") == expected
    assert read_call(expected).model == "x/é"


def test_a_body_that_is_too_deep_for_another_model_is_refused() -> None:
    body = b'{"model":"a","n":' + 100_000 * b"[" + 100_000 * b"]" + b"}"
    with pytest.raises(BadRequest, match="too deeply"):
        read_call(body)


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | TEXT, st.lists)


@given(st.dictionaries(TEXT, VALUES), TEXT)
def test_any_body_has_its_other_members_afterwards(members: dict[str, object], model: str) -> None:
    body = json.dumps(members, ensure_ascii=False).encode()

    assert json.loads(with_model(body, model)) == members | {"model": model}
