"""What holds for every dialect, whichever API it is of."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trioproxy.wire import (
    ANTHROPIC_MESSAGES,
    LLAMACPP_COMPLETION,
    OLLAMA_CHAT,
    OLLAMA_GENERATE,
    OPENAI_CHAT,
    OPENAI_COMPLETIONS,
    OPENAI_RESPONSES,
    ROUTES,
    Dialect,
    Failure,
    Message,
    Usage,
    Verdict,
    dialect_for,
    error_dialect_for,
)

EACH = pytest.mark.parametrize("dialect", ROUTES.values(), ids=lambda dialect: dialect.name)
FAILURE = Failure(502, "upstream_error", 'it said "no"\r\n\r\ndata: 川', "upstream_broken", "model")
NAMES = [None, b"error", b"content_block_delta", b"response.output_text.delta", b"message_delta"]
KEYS = [
    *("error", "object", "type", "choices", "delta", "text", "usage", "content", "stop", "done"),
    *("response", "message", "id", "sequence_number", "tokens_predicted", "eval_count"),
]


@EACH
@settings(deadline=None)
@given(
    st.sampled_from(NAMES) | st.binary(max_size=6),
    st.binary(max_size=40)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
        ),
    ).map(lambda value: json.dumps(value).encode()),
)
def test_no_message_makes_a_dialect_fail(dialect: Dialect, name: bytes | None, data: bytes) -> None:
    message = Message(name, data)

    assert dialect.verdict(message) in (None, *Verdict)
    assert isinstance(dialect.text(message), str)
    assert isinstance(dialect.usage(message), Usage | None)
    assert isinstance(dialect.answer_id(message), str | None)
    if dialect.numbered is not None:
        numbered = dialect.numbered(data, 7)
        assert numbered == data or json.loads(numbered)["sequence_number"] == 7


@EACH
def test_failure_in_band_is_told_once_and_read_back_as_one(dialect: Dialect) -> None:
    messages = dialect.failure(FAILURE, 3)
    frames = b"".join(dialect.framing.encode(message, None) for message in messages)

    read = dialect.framing.parser(1 << 20).feed(frames)

    verdicts = [dialect.verdict(message) for message in read]
    assert [message.name for message in messages] == [message.name for message in read]
    assert verdicts == [Verdict.FAILED] + [Verdict.COMPLETED] * len(dialect.closing)
    assert read[1:] == list(dialect.closing)
    assert FAILURE.message.splitlines()[-1] in json.dumps(
        json.loads(read[0].data), ensure_ascii=False
    )


@EACH
def test_error_body_is_json_that_tells_the_message(dialect: Dialect) -> None:
    body = json.loads(dialect.error_body(FAILURE))

    error = body["error"]
    assert FAILURE.message == (error if isinstance(error, str) else error["message"])


@EACH
def test_heartbeat_decides_nothing_and_says_nothing(dialect: Dialect) -> None:
    messages = dialect.framing.parser(1 << 20).feed(dialect.heartbeat)

    assert all(dialect.verdict(message) is None for message in messages)
    assert not any(dialect.text(message) for message in messages)
    assert all(message.name == b"ping" for message in messages)


@EACH
@pytest.mark.parametrize(
    "data", [b'{"error":{"message":"x"}}', b'{"object":"error","message":"x"}', b'{"error":"x"}']
)
def test_an_error_of_an_engine_of_another_kind_is_an_error_too(
    dialect: Dialect, data: bytes
) -> None:
    assert dialect.verdict(Message(None, data)) == Verdict.FAILED


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/completions", OPENAI_COMPLETIONS),
        ("/v1/chat/completions", OPENAI_CHAT),
        ("/v1/responses", OPENAI_RESPONSES),
        ("/v1/messages", ANTHROPIC_MESSAGES),
        ("/completion", LLAMACPP_COMPLETION),
        ("/api/generate", OLLAMA_GENERATE),
        ("/api/chat", OLLAMA_CHAT),
        ("/v1/chat/completions/", None),
        ("/v1/chat/completions?x=1", None),
        ("/chat/completions", None),
        ("/v1/messages/count_tokens", None),
        ("/v1/models", None),
        ("", None),
    ],
)
def test_path_names_its_dialect(path: str, expected: Dialect | None) -> None:
    assert expected is dialect_for(path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/messages", ANTHROPIC_MESSAGES),
        ("/v1/messages/count_tokens", ANTHROPIC_MESSAGES),
        ("/api/tags", OLLAMA_CHAT),
        ("/completion", LLAMACPP_COMPLETION),
        ("/v1/models", OPENAI_CHAT),
        ("/nowhere", OPENAI_CHAT),
        ("", OPENAI_CHAT),
    ],
)
def test_errors_are_told_as_the_clients_of_a_path_expect(path: str, expected: Dialect) -> None:
    assert expected is error_dialect_for(path)


def test_every_route_has_a_dialect_of_its_own_name() -> None:
    names = [dialect.name for dialect in ROUTES.values()]

    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("dialect", "message", "expected"),
    [
        (OPENAI_RESPONSES, Message(b"response.completed", b"{}"), Verdict.COMPLETED),
        (OPENAI_RESPONSES, Message(b"response.incomplete", b"{}"), Verdict.COMPLETED),
        (OPENAI_RESPONSES, Message(None, b'{"type":"response.completed"}'), Verdict.COMPLETED),
        (OPENAI_RESPONSES, Message(b"response.failed", b"{}"), Verdict.FAILED),
        (OPENAI_RESPONSES, Message(b"error", b"{}"), Verdict.FAILED),
        (OPENAI_RESPONSES, Message(None, b'{"type":"error","message":"x"}'), Verdict.FAILED),
        (OPENAI_RESPONSES, Message(b"response.output_text.done", b"{}"), None),
        (
            OPENAI_RESPONSES,
            Message(b"response.created", b'{"response":{"id":"r","error":null}}'),
            None,
        ),
        (ANTHROPIC_MESSAGES, Message(b"message_stop", b"{}"), Verdict.COMPLETED),
        (ANTHROPIC_MESSAGES, Message(b"error", b'{"type":"error"}'), Verdict.FAILED),
        (ANTHROPIC_MESSAGES, Message(b"ping", b'{"type": "ping"}'), None),
        (ANTHROPIC_MESSAGES, Message(b"message_delta", b"{}"), None),
        (LLAMACPP_COMPLETION, Message(None, b'{"content":"","stop":true}'), Verdict.COMPLETED),
        (LLAMACPP_COMPLETION, Message(None, b'{ "stop" : true }'), Verdict.COMPLETED),
        (LLAMACPP_COMPLETION, Message(None, b'{"content":"a","stop":false}'), None),
        (LLAMACPP_COMPLETION, Message(None, b'{"content":"\\"stop\\":true","stop":false}'), None),
        (LLAMACPP_COMPLETION, Message(None, b'{"x":{"stop":true},"stop":false}'), None),
        (LLAMACPP_COMPLETION, Message(None, b'{"content":"true"}'), None),
        (OLLAMA_GENERATE, Message(None, b'{"response":"","done":true}'), Verdict.COMPLETED),
        (OLLAMA_GENERATE, Message(None, b'{"response":"true","done":false}'), None),
        (OLLAMA_CHAT, Message(None, b'{"message":{},"done": true}'), Verdict.COMPLETED),
        (OLLAMA_CHAT, Message(None, b'{"error":"model not found"}'), Verdict.FAILED),
    ],
    ids=lambda value: value.name if isinstance(value, Dialect) else None,
)
def test_what_ends_a_stream(dialect: Dialect, message: Message, expected: Verdict | None) -> None:
    assert expected == dialect.verdict(message)


@pytest.mark.parametrize(
    ("dialect", "message", "expected"),
    [
        (
            OPENAI_RESPONSES,
            Message(b"response.output_text.delta", b'{"delta":" a"}'),
            " a",
        ),
        (
            OPENAI_RESPONSES,
            Message(None, b'{"type":"response.output_text.delta","delta":"b"}'),
            "b",
        ),
        (
            OPENAI_RESPONSES,
            Message(b"response.function_call_arguments.delta", b'{"delta":"{"}'),
            "",
        ),
        (OPENAI_RESPONSES, Message(b"response.output_text.done", b'{"text":"a"}'), ""),
        (
            ANTHROPIC_MESSAGES,
            Message(b"content_block_delta", b'{"delta":{"type":"text_delta","text":"a"}}'),
            "a",
        ),
        (
            ANTHROPIC_MESSAGES,
            Message(b"content_block_delta", b'{"delta":{"partial_json":"{"}}'),
            "",
        ),
        (ANTHROPIC_MESSAGES, Message(b"message_start", b'{"delta":{"text":"a"}}'), ""),
        (LLAMACPP_COMPLETION, Message(None, b'{"content":" a"}'), " a"),
        (OLLAMA_GENERATE, Message(None, b'{"response":" a"}'), " a"),
        (OLLAMA_CHAT, Message(None, b'{"message":{"role":"assistant","content":" a"}}'), " a"),
    ],
    ids=lambda value: value.name if isinstance(value, Dialect) else None,
)
def test_what_is_text(dialect: Dialect, message: Message, expected: str) -> None:
    assert expected == dialect.text(message)


@pytest.mark.parametrize(
    ("dialect", "message", "expected"),
    [
        (
            OPENAI_RESPONSES,
            Message(None, b'{"response":{"usage":{"input_tokens":1,"output_tokens":2}}}'),
            Usage(1, 2),
        ),
        (OPENAI_RESPONSES, Message(None, b'{"response":{"usage":null}}'), None),
        (
            ANTHROPIC_MESSAGES,
            Message(None, b'{"message":{"usage":{"input_tokens":3,"output_tokens":1}}}'),
            Usage(3, None),
        ),
        (ANTHROPIC_MESSAGES, Message(None, b'{"usage":{"output_tokens":7}}'), Usage(None, 7)),
        (
            LLAMACPP_COMPLETION,
            Message(None, b'{"tokens_predicted":2,"tokens_evaluated":5}'),
            Usage(5, 2),
        ),
        (OLLAMA_CHAT, Message(None, b'{"prompt_eval_count":5,"eval_count":2}'), Usage(5, 2)),
        (OLLAMA_CHAT, Message(None, b'{"message":{"content":"eval_count"}}'), None),
    ],
    ids=lambda value: value.name if isinstance(value, Dialect) else None,
)
def test_what_is_usage(dialect: Dialect, message: Message, expected: Usage | None) -> None:
    assert expected == dialect.usage(message)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, "invalid_request_error"),
        (404, "not_found_error"),
        (409, "invalid_request_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ],
)
def test_anthropics_errors_are_named_by_their_status(status: int, expected: str) -> None:
    body = json.loads(ANTHROPIC_MESSAGES.error_body(Failure(status, "x", "y")))

    assert body == {"type": "error", "error": {"type": expected, "message": "y"}}


def test_usage_is_brought_up_to_date_by_what_is_told_later() -> None:
    assert Usage(3, None).updated(Usage(None, 7)) == Usage(3, 7)
    assert Usage(3, 1).updated(Usage(4, 7)) == Usage(4, 7)
