"""What a stream has told so far."""

import pytest

from tests.wire.test_captures import captured, parse
from trioproxy.wire import (
    ANTHROPIC_MESSAGES,
    LLAMACPP_COMPLETION,
    OPENAI_CHAT,
    OPENAI_RESPONSES,
    Dialect,
    Message,
    Tally,
    Usage,
)


@pytest.mark.parametrize(
    ("name", "dialect", "text_events", "usage", "answer_id"),
    [
        ("chat", OPENAI_CHAT, 24, Usage(27, 24), None),
        ("chat_nousage", OPENAI_CHAT, 8, None, None),
        ("messages", ANTHROPIC_MESSAGES, 24, Usage(1, 24), None),
        (
            "responses",
            OPENAI_RESPONSES,
            24,
            Usage(27, 24),
            "resp_OTNkG0bxPJJ2kG5cPi9bBU83aVQSfzev",
        ),
        ("native", LLAMACPP_COMPLETION, 24, Usage(5, 24), None),
    ],
)
def test_a_captured_stream_is_counted(
    name: str, dialect: Dialect, text_events: int, usage: Usage | None, answer_id: str | None
) -> None:
    tally = Tally(dialect)

    for message in parse([captured(name)]):
        tally.count(message)

    assert (text_events, usage, answer_id) == (tally.text_events, tally.usage, tally.answer_id)


def test_half_a_stream_tells_what_it_has_told() -> None:
    tally = Tally(ANTHROPIC_MESSAGES)

    for message in parse([captured("messages")])[:10]:
        tally.count(message)

    assert (tally.text_events, tally.usage) == (8, Usage(1, None))


@pytest.mark.parametrize("told", [-1, 2**53 + 1, 10**400], ids=["negative", "inexact", "no float"])
def test_a_count_that_nothing_can_reckon_with_is_none(told: int) -> None:
    tally = Tally(OPENAI_CHAT)
    tally.count(Message(None, b'{"usage":{"prompt_tokens":7,"completion_tokens":%d}}' % told))

    assert tally.usage == Usage(prompt_tokens=7)
