"""The parser against an interpreter of the WHATWG's rules that sees the whole stream at once."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.chunking import chunkings
from trioproxy.wire import EventTooLarge, Message, SSEParser

FRAGMENTS = [
    *[b"data", b"event", b"id", b"retry", b"foo", b":", b": ", b" "],
    *[b"\n", b"\r", b"\r\n", b"\n\n", b"data: a\n", b"data:b\r"],
    *[b"\xef\xbb\xbf", b"\xef", b"\xbb", b"\xe2\x80\xa8", b"\x0b", b"\0", b"7", b"x", b"[DONE]"],
]
STREAMS = st.lists(st.sampled_from(FRAGMENTS), max_size=40).map(b"".join) | st.binary(max_size=80)
CHUNKED_STREAMS = STREAMS.flatmap(lambda stream: st.tuples(st.just(stream), chunkings(stream)))


def interpret(stream: bytes) -> dict[str, object]:
    """What the whole stream means: sections 9.2.5 and 9.2.6, step by step, at any cost."""
    *lines, _unterminated = re.split(rb"\r\n|\r|\n", re.sub(rb"\A\xef\xbb\xbf", b"", stream))
    messages: list[Message] = []
    last_event_id, event_id, name, data, retry, comments = b"", b"", b"", b"", None, 0
    for line in lines:
        field, value = line, b""
        if b":" in line:
            field, value = line[: line.index(b":")], line[line.index(b":") + 1 :]
            value = re.sub(rb"\A ", b"", value)
        if line == b"":
            last_event_id = event_id
            if data != b"":
                messages.append(Message(name or None, data[:-1]))
            data, name = b"", b""
        elif line.startswith(b":"):
            comments += 1
        elif field == b"event":
            name = value
        elif field == b"data":
            data = data + value + b"\n"
        elif field == b"id" and b"\0" not in value:
            event_id = value
        elif field == b"retry" and re.fullmatch(rb"[0-9]{1,18}", value):
            retry = int(value)
    return {
        "messages": messages,
        "last_event_id": last_event_id,
        "retry": retry,
        "comments": comments,
    }


@settings(deadline=None, max_examples=400)
@given(CHUNKED_STREAMS)
def test_any_chunking_means_what_the_whole_stream_means(case: tuple[bytes, list[bytes]]) -> None:
    stream, chunks = case
    parser = SSEParser()

    messages = [message for chunk in chunks for message in parser.feed(chunk)]

    actual = {
        "messages": messages,
        "last_event_id": parser.last_event_id,
        "retry": parser.retry,
        "comments": parser.comments,
    }
    assert interpret(stream) == actual


@settings(deadline=None)
@given(CHUNKED_STREAMS)
def test_what_finish_returns_does_not_depend_on_the_chunks(case: tuple[bytes, list[bytes]]) -> None:
    stream, chunks = case
    whole, chunked = SSEParser(), SSEParser()

    whole.feed(stream)
    for chunk in chunks:
        chunked.feed(chunk)

    assert whole.finish() == chunked.finish()


@settings(deadline=None)
@given(CHUNKED_STREAMS, st.integers(1, 24))
def test_whether_a_stream_is_too_large_does_not_depend_on_the_chunks(
    case: tuple[bytes, list[bytes]], max_event_bytes: int
) -> None:
    stream, chunks = case

    def too_large(chunks: list[bytes]) -> bool:
        parser = SSEParser(max_event_bytes)
        try:
            for chunk in chunks:
                parser.feed(chunk)
        except EventTooLarge:
            return True
        return False

    assert too_large([stream]) == too_large(chunks)
