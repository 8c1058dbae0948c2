"""JSON of anybody: in the events of an upstream, in requests, in the messages of WebSockets."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.budget import budget
from tests.fuzz.noise import spoiled
from trioproxy.web.messages import Garbage, Misunderstood, read_command
from trioproxy.wire import (
    ROUTES,
    BadRequest,
    Dialect,
    Message,
    Tally,
    Verdict,
    in_foreground,
    number_of,
    read_call,
    snapshot_of,
    wants_background,
    with_model,
    with_status,
    with_stream,
)

TOKENS = [
    *(b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\", b"null", b"true", b"1e999", b"-0", b"NaN"),
    *(b'"\\ud800"', b"\xed\xa0\x80", b"\xff", b"\xef\xbb\xbf", b"\0", b'"error"', b'"usage"'),
    *(b"[" * 3_000, b'{"a":' * 3_000, b"9" * 400, b"-1", b'"choices":', b'"response":'),
]
EVENTS = [
    b'{"id":"a","choices":[{"text":"b","delta":{"content":"c"}}],"usage":{"prompt_tokens":1}}',
    b'{"type":"response.completed","sequence_number":7,"response":{"id":"r","usage":'
    b'{"input_tokens":1,"output_tokens":2},"status":"completed"}}',
    b'{"type":"message_start","message":{"usage":{"input_tokens":1}},"delta":{"text":"a"}}',
    b'{"content":"a","stop":true,"tokens_evaluated":1,"tokens_predicted":2}',
    b'{"model":"m","message":{"content":"a"},"response":"b","done":true,"eval_count":3}',
    b'{"error":{"message":"a"},"object":"error"}',
    b'{"usage":{"prompt_tokens":%b,"completion_tokens":-1}}' % (b"9" * 400),
    b"[DONE]",
]
NAMES = [None, b"error", b"content_block_delta", b"response.completed", b"message_delta", b"\xff"]


@pytest.mark.parametrize("dialect", ROUTES.values(), ids=lambda dialect: dialect.name)
@budget(120)
@given(st.sampled_from(NAMES) | st.binary(max_size=4), spoiled(EVENTS, TOKENS))
def test_any_message_is_read(dialect: Dialect, name: bytes | None, data: bytes) -> None:
    message, tally = Message(name, data), Tally(dialect)

    assert dialect.verdict(message) in (None, *Verdict)
    assert isinstance(dialect.text(message), str)
    tally.count(message)
    for count in (tally.usage and tally.usage.prompt_tokens, number_of(data)):
        assert count is None or isinstance(count, int)
    if tally.usage is not None:
        float(tally.usage.prompt_tokens or 0) + float(tally.usage.completion_tokens or 0)
    if (snapshot := snapshot_of(data)) is not None:
        with_status(snapshot, "failed").decode("utf-8", "replace")
    if dialect.numbered is not None:
        numbered = dialect.numbered(data, 7)
        assert numbered == data or number_of(numbered) == 7


BODIES = [
    b'{"model":"m","prompt":"a","stream":true}',
    b'{"model":null,"messages":[{"role":"user","content":"a"}],"stream":null}',
    b'{"input":"a","background":true,"stream":false,"n":1e3}',
    b" {\n} ",
]


@budget(300)
@given(spoiled(BODIES, [*TOKENS, b'"stream":', b'"model":', b'"background":']))
def test_any_body_is_read_or_refused_by_what_is_wrong(body: bytes) -> None:
    try:
        call = read_call(body)
        background = wants_background(body)
        foreground, renamed = in_foreground(body), with_model(body, "x")
    except BadRequest as error:
        refusal = str(error)
    else:
        refusal = None
    if refusal is not None:
        assert len(refusal) < 200
        assert "\n" not in refusal
        return
    assert read_call(foreground).stream is True
    assert not wants_background(foreground)
    assert read_call(renamed) == type(call)(call.stream, "x")
    assert isinstance(background, bool)
    if call.stream is None:
        assert read_call(with_stream(body)) == type(call)(True, call.model)
    if call.model is not None:
        call.model.encode()


COMMANDS = [
    b'{"type":"generate","path":"/v1/completions","body":{"a":1},"key":"k","linger":1.5,"ref":1}',
    b'{"type":"subscribe","generation":"gen_0","after":7,"mode":"live","ref":"a"}',
    b'{"type":"cancel","generation":"gen_0"}',
    b'{"type":"ping","ref":null}',
]


@budget(300)
@given(spoiled(COMMANDS, TOKENS))
def test_any_message_of_a_client_is_a_command_or_told_what_it_is(sent: bytes) -> None:
    text = sent.decode("utf-8", "replace")
    ref = None
    try:
        ref = read_command(text).ref
    except Garbage:
        pass  # its socket is closed
    except Misunderstood as misunderstood:
        ref = misunderstood.ref
    assert json.loads(msgspec.json.encode(ref)) == ref
