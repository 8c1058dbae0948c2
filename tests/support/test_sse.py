"""The strict SSE reader: what it reads, and what it refuses that a browser would forgive."""

import pytest

from tests.support.sse import MalformedStreamError, SseEvent, SseReader

ONE_EVENT = [SseEvent("7", "delta", b"first\nsecond")]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        pytest.param(b"data: a\n\ndata: b\n\n", ["a", "b"], id="lf"),
        pytest.param(b"data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"], id="crlf"),
        pytest.param(b"data: a\r\rdata: b\r\r", ["a", "b"], id="cr"),
        pytest.param(b"\xef\xbb\xbfdata: a\n\n", ["a"], id="byte order mark"),
        pytest.param(b"data:a\n\ndata:  b\n\n", ["a", " b"], id="one space is dropped"),
        pytest.param(b"data\n\ndata:\n\n", ["", ""], id="empty data"),
        pytest.param(b"id: 1\n\nretry: 10\n\ndata: a\n\n", ["a"], id="blocks without data"),
        pytest.param(
            "data: \u2028\u2029\x85\x0b\n\n".encode(), ["\u2028\u2029\x85\x0b"], id="seps"
        ),
    ],
)
def test_events_end_where_the_standard_says(stream: bytes, events: list[str]) -> None:
    reader = SseReader()

    received = reader.feed(stream)

    reader.finish()
    assert [SseEvent(None, None, data.encode()) for data in events] == received


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_chunk_boundaries_may_fall_anywhere(line_end: bytes) -> None:
    lines = [b"\xef\xbb\xbfid: 7", b"event: delta", b"data: first", b"data: second", b"", b""]
    stream = line_end.join(lines)

    for cut in range(len(stream) + 1):
        reader = SseReader()
        assert reader.feed(stream[:cut]) + reader.feed(stream[cut:]) == ONE_EVENT
    reader = SseReader()
    assert [
        event for i in range(len(stream)) for event in reader.feed(stream[i : i + 1])
    ] == ONE_EVENT


def test_comments_are_kept_apart_from_the_events() -> None:
    reader = SseReader()

    events = reader.feed(b": ping\n\n:\n\ndata: a\n\n")

    assert [SseEvent(None, None, b"a")] == events
    assert reader.comments == [b" ping", b""]


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        pytest.param(b"HTTP/1.1 200 OK\n", "unknown field", id="unknown field"),
        pytest.param(b"0\r\n", "unknown field", id="chunk framing inside the body"),
        pytest.param(b"id: 1\nid: 2\ndata: a\n\n", "second b'id'", id="two ids"),
        pytest.param(b"event: a\nevent: b\n", "second b'event'", id="two names"),
        pytest.param(b"event: a\n\n", "without data", id="no data"),
        pytest.param(b"id: a\0b\n", "NUL", id="id with a NUL"),
        pytest.param(b"retry: soon\n", "retry", id="retry is no number"),
    ],
)
def test_what_a_browser_would_forgive_raises(stream: bytes, message: str) -> None:
    with pytest.raises(MalformedStreamError, match=message):
        SseReader().feed(stream)


@pytest.mark.parametrize("rest", [b"data: a", b"data: a\n", b"id: 1\n", b"dat"])
def test_an_end_inside_an_event_raises(rest: bytes) -> None:
    reader = SseReader()
    reader.feed(b"data: whole\n\n" + rest)

    with pytest.raises(MalformedStreamError, match="ends inside an event"):
        reader.finish()
