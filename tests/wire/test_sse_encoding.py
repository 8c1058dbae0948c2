"""Frames: their bytes, that nothing can be injected, and that the parser gives them back."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.chunking import chunkings
from trioproxy.wire import Message, SSEParser, encode, encode_comment

HOSTILE = [b"\n", b"\r", b"\r\n", b"\n\n", b"data: x", b"event: x", b"id: x", b":", b" ", b"\0"]
ANY_DATA = st.lists(st.sampled_from(HOSTILE) | st.binary(max_size=6), max_size=8).map(b"".join)
ONE_LINE = st.binary(min_size=1, max_size=12).filter(
    lambda value: not re.search(rb"[\r\n\0]", value)
)
MESSAGES = st.builds(Message, st.none() | ONE_LINE, ANY_DATA)


@pytest.mark.parametrize(
    ("message", "event_id", "expected"),
    [
        (Message(None, b"a"), None, b"data: a\n\n"),
        (Message(None, b""), None, b"data: \n\n"),
        (Message(None, b" a "), None, b"data:  a \n\n"),
        (Message(b"ping", b"a"), None, b"event: ping\ndata: a\n\n"),
        (Message(b"", b"a"), None, b"data: a\n\n"),
        (Message(None, b"a"), b"gen_1:7", b"data: a\nid: gen_1:7\n\n"),
        (Message(None, b"a"), b"", b"data: a\nid: \n\n"),
        (Message(b"ping", b"a"), b"7", b"event: ping\ndata: a\nid: 7\n\n"),
        (Message(None, b"a\nb"), None, b"data: a\ndata: b\n\n"),
        (Message(None, b"a\rb"), None, b"data: a\ndata: b\n\n"),
        (Message(None, b"a\r\nb"), None, b"data: a\ndata: b\n\n"),
        (Message(None, b"\n\r"), None, b"data: \ndata: \ndata: \n\n"),
        (Message(None, b"a\n\nid: 9"), None, b"data: a\ndata: \ndata: id: 9\n\n"),
        (Message(None, b"\xe2\x80\xa8\xff\0"), None, b"data: \xe2\x80\xa8\xff\0\n\n"),
    ],
)
def test_frame_is_name_then_data_then_id_then_a_blank_line(
    message: Message, event_id: bytes | None, expected: bytes
) -> None:
    assert expected == encode(message, event_id)


@pytest.mark.parametrize("control", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("place", [b"%ba", b"a%ba", b"a%b"])
def test_control_bytes_in_id_or_name_are_refused(control: bytes, place: bytes) -> None:
    value = place % control

    with pytest.raises(ValueError, match="id must not hold CR or LF"):
        encode(Message(None, b"a"), value)
    with pytest.raises(ValueError, match="name must not hold CR or LF"):
        encode(Message(value, b"a"))


def test_nul_is_refused_in_an_id_and_passes_in_a_name() -> None:
    with pytest.raises(ValueError, match="id must not hold NUL"):
        encode(Message(None, b"a"), b"1\0")
    assert encode(Message(b"a\0b", b"c")) == b"event: a\0b\ndata: c\n\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", b":\n"),
        (b"ping", b": ping\n"),
        (b"a\nb", b": a\n: b\n"),
        (b"a\r\n\r\ndata: x\r", b": a\n:\n: data: x\n:\n"),
    ],
)
def test_comment_frame_holds_the_text_in_comment_lines_only(text: bytes, expected: bytes) -> None:
    assert expected == encode_comment(text)


def test_comment_frame_without_text_is_the_shortest_keep_alive() -> None:
    assert encode_comment() == b":\n"


@settings(deadline=None)
@given(ANY_DATA)
def test_no_comment_text_is_ever_read_as_a_message(text: bytes) -> None:
    assert SSEParser().feed(encode_comment(text) + encode_comment(text)) == []


@settings(deadline=None, max_examples=300)
@given(st.data(), st.lists(st.tuples(MESSAGES, st.none() | ONE_LINE), max_size=4))
def test_encoded_messages_come_back_from_any_chunking(
    draw: st.DataObject, frames: list[tuple[Message, bytes | None]]
) -> None:
    stream = b"".join(encode(message, event_id) for message, event_id in frames)
    ids = [event_id for _, event_id in frames if event_id is not None]
    parser = SSEParser()

    parsed = [message for chunk in draw.draw(chunkings(stream)) for message in parser.feed(chunk)]

    # Every kind of line end comes back as LF: that is the only one that data can hold.
    assert [Message(m.name, re.sub(rb"\r\n?", b"\n", m.data)) for m, _ in frames] == parsed
    assert (ids[-1] if ids else b"") == parser.last_event_id
    assert parser.finish() is None


@settings(deadline=None)
@given(MESSAGES)
def test_a_message_that_was_parsed_comes_back_unchanged(message: Message) -> None:
    (parsed,) = SSEParser().feed(encode(message))

    assert [parsed] == SSEParser().feed(encode(parsed))
