"""JSON lines: the same lines however the bytes are cut, bounded, and written back."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.chunking import byte_by_byte, cut
from trioproxy.wire import EventTooLarge, Message, NDJSONParser, encode_line

LINES = [b'{"response":" \xe5\xb7\x9d"}', b'{"response":"\xe2\x80\xa8\x0b"}', b'{"done":true}']
STREAM = b"".join(line + b"\n" for line in LINES)


def parse(chunks: list[bytes]) -> list[bytes]:
    parser = NDJSONParser()
    messages = [message for chunk in chunks for message in parser.feed(chunk)]
    assert all(message.name is None for message in messages)
    assert parser.finish() is None
    return [message.data for message in messages]


def test_lines_are_the_same_however_they_are_cut() -> None:
    dice = random.Random(1)

    assert parse([STREAM]) == LINES
    assert parse(byte_by_byte(STREAM)) == LINES
    for _ in range(20):
        assert parse(cut(STREAM, [dice.randrange(len(STREAM)) for _ in range(5)])) == LINES


def test_blank_lines_say_nothing_and_a_cr_belongs_to_the_line_end() -> None:
    assert parse([b' \r\n\n{"a":1}\r\r\n\r', b'\n \t{"b":2} \n']) == [b'{"a":1}', b'{"b":2}']


@pytest.mark.parametrize("rest", [b'{"done":true}', b'{"done":true}\r', b'{"do'])
def test_a_last_line_without_its_end_is_told_by_finish(rest: bytes) -> None:
    parser = NDJSONParser()

    assert parser.feed(b'{"a":1}\n' + rest) == [Message(None, b'{"a":1}')]
    assert parser.finish() == Message(None, rest.removesuffix(b"\r"))
    assert parser.finish() is None


@pytest.mark.parametrize("chunks", [[b"x" * 11], [b"x" * 6, b"x" * 5], [b"x" * 11 + b"\n"]])
def test_a_line_over_the_bound_is_refused_then_and_ever_after(chunks: list[bytes]) -> None:
    parser = NDJSONParser(10)
    *before, last = chunks
    for chunk in before:
        parser.feed(chunk)

    with pytest.raises(EventTooLarge):
        parser.feed(last)
    with pytest.raises(EventTooLarge):
        parser.feed(b"\n")


@given(
    st.lists(
        st.binary(min_size=1).filter(
            lambda line: not set(line) & set(b"\r\n") and line == line.strip(b" \t")
        )
    )
)
def test_what_is_written_is_read_back(lines: list[bytes]) -> None:
    assert lines == parse([b"".join(encode_line(Message(None, line)) for line in lines)])


def test_a_line_end_between_the_tokens_of_json_does_not_end_the_line() -> None:
    assert encode_line(Message(None, b'{\r\n"a":1\n}')) == b'{  "a":1 }\n'
