"""Streams as llama.cpp (b11549) sent them: text, verdict, usage, and each payload's bytes."""

import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.wire.chunking import byte_by_byte, cut
from trioproxy.wire import (
    OPENAI_CHAT,
    OPENAI_COMPLETIONS,
    Dialect,
    Message,
    SSEParser,
    Usage,
    Verdict,
    encode,
)

CAPTURES = Path(__file__).parent / "captures"
STORY = " to stop. Déjà vu is a long story grows and the story goes on until the reader."
RIVER = ". 東京 は 川 の 町 です 。 The boat are small model can stream a lamp shows the way"

# name: dialect, text of each choice, usage
STREAMS: dict[str, tuple[Dialect, dict[int, str], Usage | None]] = {
    "chat": (OPENAI_CHAT, {0: STORY + " When the 🚢 boat are"}, Usage(27, 24)),
    "chat_logprobs": (OPENAI_CHAT, {0: " to stop. Déjà"}, None),
    "chat_n2": (
        OPENAI_CHAT,
        {0: " to stop. Déjà vu is a long", 1: " to stop. In the river runs under"},
        Usage(27, 8),
    ),
    "chat_nousage": (OPENAI_CHAT, {0: " to stop. Déjà vu is a long"}, None),
    "chat_stop": (OPENAI_CHAT, {0: " to stop"}, None),
    "chat_timings": (OPENAI_CHAT, {0: " to stop. Déjà"}, None),
    "chat_tool": (OPENAI_CHAT, {0: ""}, None),
    "completions": (OPENAI_COMPLETIONS, {0: RIVER + " to many readers."}, Usage(5, 24)),
    "completions_n2": (
        OPENAI_COMPLETIONS,
        {0: ". 東京 は 川 の 町 です 。", 1: " and a river and the river runs under"},
        Usage(5, 8),
    ),
    "completions_usage": (OPENAI_COMPLETIONS, {0: RIVER + " to many readers."}, Usage(5, 24)),
}
EACH_STREAM = pytest.mark.parametrize("name", STREAMS)


def captured(name: str) -> bytes:
    return (CAPTURES / f"{name}.body").read_bytes()


def parse(chunks: list[bytes]) -> list[Message]:
    parser = SSEParser()
    messages = [message for chunk in chunks for message in parser.feed(chunk)]
    assert parser.finish() is None
    return messages


def chunks_of(name: str) -> list[dict[str, Any]]:
    """The JSON of every event before `[DONE]`."""
    return [json.loads(message.data) for message in parse([captured(name)])[:-1]]


@EACH_STREAM
def test_payload_bytes_are_those_on_the_wire_however_they_are_cut(name: str) -> None:
    stream = captured(name)
    payloads = [line[6:] for line in stream.split(b"\n") if line.startswith(b"data: ")]
    expected = [Message(None, payload) for payload in payloads]
    assert len(expected) == stream.count(b"\n\n")

    assert expected == parse([stream])
    assert expected == parse(byte_by_byte(stream))
    dice = random.Random(name)
    for _ in range(20):
        points = [dice.randrange(len(stream)) for _ in range(dice.randrange(1, 200))]
        assert expected == parse(cut(stream, points))


@EACH_STREAM
def test_encoding_what_was_parsed_gives_the_stream_back(name: str) -> None:
    stream = captured(name)

    assert stream == b"".join(encode(message) for message in parse([stream]))


@EACH_STREAM
def test_only_the_last_event_decides_and_it_completes(name: str) -> None:
    dialect, _, _ = STREAMS[name]

    verdicts = [dialect.verdict(message) for message in parse([captured(name)])]

    assert [None] * (len(verdicts) - 1) + [Verdict.COMPLETED] == verdicts


@EACH_STREAM
def test_text_of_each_choice_is_whole(name: str) -> None:
    dialect, expected, _ = STREAMS[name]
    texts: defaultdict[int, str] = defaultdict(str)
    for message in parse([captured(name)])[:-1]:
        choices = json.loads(message.data)["choices"]
        assert len(choices) <= 1
        for choice in choices:
            texts[choice["index"]] += dialect.text(message)

    assert expected == texts


@EACH_STREAM
def test_usage_is_found_in_the_event_that_tells_it_and_in_no_other(name: str) -> None:
    dialect, _, expected = STREAMS[name]
    messages = parse([captured(name)])

    found = {message: dialect.usage(message) for message in messages}

    telling = [message for message in messages if b'"usage":{' in message.data]
    assert dict.fromkeys(telling, expected) == {
        message: usage for message, usage in found.items() if usage is not None
    }
    assert bool(telling) == (expected is not None)


def test_tool_call_arguments_arrive_whole_and_are_not_text() -> None:
    deltas = [choice["delta"] for chunk in chunks_of("chat_tool") for choice in chunk["choices"]]

    calls = [call["function"] for delta in deltas for call in delta.get("tool_calls", [])]

    assert [name for call in calls if (name := call.get("name"))] == ["get_weather"]
    arguments = json.loads("".join(call["arguments"] for call in calls))
    assert arguments.keys() == {"unit", "days"}


def test_logprobs_arrive_beside_the_text_they_belong_to() -> None:
    for message in parse([captured("chat_logprobs")])[:-1]:
        (choice,) = json.loads(message.data)["choices"]
        tokens = choice.get("logprobs", {}).get("content", [])
        assert OPENAI_CHAT.text(message) == "".join(token["token"] for token in tokens)


@pytest.mark.parametrize("name", ["err_404", "err_badjson", "err_ctx_chat", "err_nomessages"])
@pytest.mark.parametrize("dialect", [OPENAI_COMPLETIONS, OPENAI_CHAT], ids=lambda d: d.name)
def test_error_body_of_the_engine_is_an_error_when_told_in_band(
    name: str, dialect: Dialect
) -> None:
    message = Message(None, captured(name))

    assert dialect.verdict(message) == Verdict.FAILED
    assert not dialect.text(message)


@pytest.mark.parametrize("lost", [1, 2])
def test_terminal_event_without_its_blank_line_still_completes(lost: int) -> None:
    parser = SSEParser()
    messages = parser.feed(captured("chat")[:-lost])
    assert all(OPENAI_CHAT.verdict(message) is None for message in messages)

    pending = parser.finish()

    assert pending is not None
    assert OPENAI_CHAT.verdict(pending) == Verdict.COMPLETED
