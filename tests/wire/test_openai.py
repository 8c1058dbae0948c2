"""The OpenAI dialects: what a message decides, carries and counts, and how failures are told."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trioproxy.wire import (
    OPENAI_CHAT,
    OPENAI_COMPLETIONS,
    Dialect,
    Failure,
    Message,
    SSEParser,
    Usage,
    Verdict,
)

DIALECTS = pytest.mark.parametrize(
    "dialect", [OPENAI_COMPLETIONS, OPENAI_CHAT], ids=lambda dialect: dialect.name
)
DEEP = b"[" * 100_000
MALFORMED = [
    b"",
    b"[DONE",
    b"error",
    b'"error"',
    b'["error"]',
    b'{"error"',
    b'{"error":}',
    b'{"error":{"message":"x"}',
    b'{"error":{"message":"x"}} trailing',
    b'{"error":1,"usage":1,"choices":tru}',
    b'{"choices":[{"text":"a","delta":{"content":"a"}',
    b'{"choices":{},"usage":[]}',
    b'{"choices":[1,null,[]]}',
    b'{"choices":[{"text":1,"delta":{"content":1}}]}',
    b'{"choices":[{"text":"\xff","delta":{"content":"\xff"}}],"usage":{"prompt_tokens":1e999}}',
    b'{"choices":[{"text":"\\ud83d","delta":{"content":"\\ud83d"}}]}',
    b'{"x":"error","y":' + DEEP,
    b'{"error":' + DEEP,
    b'{"choices":' + DEEP,
    b'{"usage":' + DEEP,
]


def event(data: str) -> Message:
    return Message(None, data.encode())


@DIALECTS
@pytest.mark.parametrize("data", [b"[DONE]", b"[DONE] ", b"[DONE]\n"])
def test_done_completes_the_stream(dialect: Dialect, data: bytes) -> None:
    assert dialect.verdict(Message(None, data)) == Verdict.COMPLETED


@DIALECTS
@pytest.mark.parametrize(
    "message",
    [
        event('{"error":{"message":"x","type":"server_error","param":null,"code":500}}'),
        event('{ "error" : "out of memory" }'),
        event('{"error":{}}'),
        event(
            '{"id":"1","choices":[{"delta":{"content":"a"},"finish_reason":"error"}],"error":{}}'
        ),
        event('{"object":"error","message":"x","type":"BadRequestError","param":null,"code":400}'),
        event('{"message":"x", "object" : "error" }'),
        event('{"error":{"nested":[{"deeper":"}"}]},"choices":[]}'),
        Message(b"error", b'{"message":"x"}'),
        Message(b"error", b"out of memory"),
        Message(b"error", b""),
    ],
    ids=lambda message: message.data.decode()[:40],
)
def test_error_told_in_band_fails_the_stream(dialect: Dialect, message: Message) -> None:
    assert dialect.verdict(message) == Verdict.FAILED


@DIALECTS
@pytest.mark.parametrize(
    "message",
    [
        event('{"choices":[{"index":0,"delta":{"content":"error"}}]}'),
        event('{"choices":[{"index":0,"text":"error"}]}'),
        event('{"choices":[{"index":0,"text":"\\"error\\":"}]}'),
        event('{"choices":[{"index":0,"text":"{\\"error\\":{\\"message\\":\\"x\\"}}"}]}'),
        event('{"choices":[{"index":0,"delta":{"content":"[DONE]"}}]}'),
        event('{"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}'),
        event('{"choices":[{"index":0,"error":{"message":"x"}}]}'),
        event('{"choices":[{"object":"error"}],"object":"chat.completion.chunk"}'),
        event('{"choices":[],"error":null}'),
        event('{"choices":[], "error" : null , "object":"chat.completion.chunk"}'),
        event('{"error_code":1,"errors":[],"type":"error"}'),
        event('[{"error":{"message":"x"}}]'),
        Message(b"errors", b"{}"),
        Message(b"Error", b"{}"),
        Message(b"message", b'{"choices":[]}'),
    ],
    ids=lambda message: message.data.decode()[:60],
)
def test_other_events_decide_nothing(dialect: Dialect, message: Message) -> None:
    assert dialect.verdict(message) is None


@DIALECTS
@pytest.mark.parametrize("data", MALFORMED, ids=lambda data: repr(data[:40]))
def test_malformed_data_means_nothing(dialect: Dialect, data: bytes) -> None:
    message = Message(None, data)

    assert dialect.verdict(message) is None
    assert not dialect.text(message)
    assert dialect.usage(message) is None


@settings(deadline=None)
@given(
    st.none() | st.binary(max_size=6),
    st.binary(max_size=40)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["error", "object", "choices", "delta", "content", "text", "usage"]
                ),
                inner,
                max_size=4,
            )
        ),
    ).map(lambda value: json.dumps(value).encode()),
)
def test_no_message_can_make_a_reader_raise(name: bytes | None, data: bytes) -> None:
    message = Message(name, data)
    for dialect in (OPENAI_COMPLETIONS, OPENAI_CHAT):
        dialect.verdict(message)
        assert isinstance(dialect.text(message), str)
        dialect.usage(message)


@pytest.mark.parametrize(
    ("dialect", "data", "expected"),
    [
        (OPENAI_COMPLETIONS, '{"choices":[{"text":"a"}]}', "a"),
        (OPENAI_COMPLETIONS, '{"choices":[{"index":1,"text":"b"},{"index":0,"text":"a"}]}', "ba"),
        (OPENAI_COMPLETIONS, '{"choices":[{"text":"川"},{"text":"\\u5ddd"}]}', "川川"),
        (OPENAI_COMPLETIONS, '{"choices":[{"text":null},{"text":""},{}]}', ""),
        (OPENAI_COMPLETIONS, '{"choices":[{"delta":{"content":"a"}}]}', ""),
        (OPENAI_CHAT, '{"choices":[{"delta":{"content":"a"}}]}', "a"),
        (OPENAI_CHAT, '{"choices":[{"delta":{"content":"b"}},{"delta":{"content":"a"}}]}', "ba"),
        (OPENAI_CHAT, '{"choices":[{"delta":{"role":"assistant","content":null}}]}', ""),
        (OPENAI_CHAT, '{"choices":[{"delta":{}},{"delta":null},{}]}', ""),
        (OPENAI_CHAT, '{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}', ""),
        (OPENAI_CHAT, '{"choices":[{"text":"a"}]}', ""),
        (OPENAI_CHAT, '{"choices":[],"usage":{}}', ""),
        (OPENAI_CHAT, '{"choices":null}', ""),
        (OPENAI_CHAT, '{"error":{"message":"x"}}', ""),
        (OPENAI_CHAT, "[DONE]", ""),
    ],
)
def test_text_is_that_of_all_choices_in_order(dialect: Dialect, data: str, expected: str) -> None:
    assert expected == dialect.text(event(data))


@DIALECTS
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            '{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}',
            Usage(1, 2),
        ),
        (
            '{"usage":{"total_tokens":0,"completion_tokens":0,"prompt_tokens":0,"details":{"a":1}}}',
            Usage(0, 0),
        ),
        ('{"choices":[],"usage":null}', None),
        ('{"choices":[]}', None),
        ('{"choices":[{"text":"usage","delta":{"content":"usage"}}]}', None),
        ('{"usage":{"prompt_tokens":1,"completion_tokens":2}}', Usage(1, 2)),
        ('{"usage":{"prompt_tokens":1}}', Usage(1, None)),
        ('{"usage":{"prompt_tokens":1,"completion_tokens":"2","total_tokens":3}}', None),
        ("[DONE]", None),
    ],
)
def test_usage_is_what_the_engine_tells(
    dialect: Dialect, data: str, expected: Usage | None
) -> None:
    assert expected == dialect.usage(event(data))


FAILURES = [
    (
        Failure(504, "upstream_timeout", "no token for 120 s"),
        {"message": "no token for 120 s", "type": "upstream_timeout", "param": None, "code": None},
    ),
    (
        Failure(400, "invalid_request_error", 'bad "stream"\r\n\r\ndata: 川', "bad_type", "stream"),
        {
            "message": 'bad "stream"\r\n\r\ndata: 川',
            "type": "invalid_request_error",
            "param": "stream",
            "code": "bad_type",
        },
    ),
]


@DIALECTS
@pytest.mark.parametrize(("failure", "expected"), FAILURES)
def test_error_body_is_the_error_object_of_the_api(
    dialect: Dialect, failure: Failure, expected: dict[str, str | None]
) -> None:
    assert {"error": expected} == json.loads(dialect.error_body(failure))


@DIALECTS
@pytest.mark.parametrize(("failure", "expected"), FAILURES)
def test_failure_in_band_is_an_error_event_and_then_done(
    dialect: Dialect, failure: Failure, expected: dict[str, str | None]
) -> None:
    frames = b"".join(
        dialect.framing.encode(message, None) for message in dialect.failure(failure, 3)
    )

    error, *closing = dialect.framing.parser(1 << 20).feed(frames)

    assert error.name is None
    assert {"error": expected} == json.loads(error.data)
    assert dialect.verdict(error) == Verdict.FAILED
    assert list(dialect.closing) == closing
    assert [dialect.verdict(message) for message in closing] == [Verdict.COMPLETED]


@DIALECTS
def test_heartbeat_is_a_comment_and_no_message(dialect: Dialect) -> None:
    parser = SSEParser()

    messages = parser.feed(dialect.heartbeat)

    assert not messages
    assert parser.comments == 1
