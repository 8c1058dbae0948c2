"""The WHATWG's rules for an event stream, clause by clause, for every cut of it in three."""

import time

import pytest

from tests.wire.chunking import byte_by_byte, every_cut_in_three
from trioproxy.wire import EventTooLarge, Message, SSEParser

BOM = b"\xef\xbb\xbf"


def parse(chunks: list[bytes], parser: SSEParser | None = None) -> list[Message]:
    parser = parser or SSEParser()
    return [message for chunk in chunks for message in parser.feed(chunk)]


def data(*values: bytes) -> list[Message]:
    return [Message(None, value) for value in values]


STREAMS: dict[str, tuple[bytes, list[Message]]] = {
    "nothing": (b"", []),
    "lines that end in LF": (b"data: a\n\ndata: b\n\n", data(b"a", b"b")),
    "lines that end in CR": (b"data: a\r\rdata: b\r\r", data(b"a", b"b")),
    "lines that end in CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", data(b"a", b"b")),
    "mixed line ends": (b"data: a\rdata: b\r\ndata: c\n\r", data(b"a\nb\nc")),
    "CR, then CRLF as the blank line": (b"data: a\r\r\ndata: b\r\r\n", data(b"a", b"b")),
    "CRLF, then LF as the blank line": (b"data: a\r\n\ndata: b\r\n\n", data(b"a", b"b")),
    "LF, then CRLF as the blank line": (b"data: a\n\r\ndata: b\n\r\n", data(b"a", b"b")),
    "blank lines without an event": (b"\n\r\r\n\ndata: a\n\n\n\n", data(b"a")),
    "a CR alone at the end dispatches": (b"data: a\n\r", data(b"a")),
    "U+2028 and U+2029 end no line": (
        b"data: \xe2\x80\xa8|\xe2\x80\xa9\n\n",
        data(b"\xe2\x80\xa8|\xe2\x80\xa9"),
    ),
    "U+0085 ends no line": (b"data: \xc2\x85|\x85\n\n", data(b"\xc2\x85|\x85")),
    "VT, FF and the separators end no line": (
        b"data: \v\f\x1c\x1d\x1e\n\n",
        data(b"\v\f\x1c\x1d\x1e"),
    ),
    "bytes that are not UTF-8": (b"data: \xff\xfe\xc0\n\n", data(b"\xff\xfe\xc0")),
    "NUL in data": (b"data: a\0b\n\n", data(b"a\0b")),
    "a byte order mark": (BOM + b"data: a\n\n", data(b"a")),
    "a byte order mark before a blank line": (BOM + b"\ndata: a\n\n", data(b"a")),
    "a second byte order mark is content": (BOM + BOM + b"data: a\n\ndata: b\n\n", data(b"b")),
    "a later byte order mark is content": (b"data: a\n\n" + BOM + b"data: b\n\n", data(b"a")),
    "two thirds of a byte order mark": (b"\xef\xbbdata: a\n\ndata: b\n\n", data(b"b")),
    "one third of a byte order mark": (b"\xef\n\ndata: b\n\n", data(b"b")),
    "comments": (b":\n\n: ping\ndata: a\n:data: b\n\n", data(b"a")),
    "a comment inside an event": (b"data: a\n: ping\ndata: b\n\n", data(b"a\nb")),
    "several data lines": (b"data: a\ndata:b\ndata:\ndata: c\n\n", data(b"a\nb\n\nc")),
    "data without a colon": (b"data\n\n", data(b"")),
    "data without a value": (b"data:\n\ndata: \n\n", data(b"", b"")),
    "two empty data lines": (b"data\ndata\n\n", data(b"\n")),
    "only one leading space is removed": (b"data:a\n\ndata:  a \n\n", data(b"a", b" a ")),
    "a leading tab stays": (b"data:\ta\n\n", data(b"\ta")),
    "colons in a value": (b"data::a:b: c\n\n", data(b":a:b: c")),
    "unknown fields": (b"foo: 1\nbar\ndata: a\nerror: {}\n\n", data(b"a")),
    "field names are exact": (b"Data: a\n data: b\ndata : c\ndatax: d\n\n", []),
    "a name": (b"event: ping\ndata: a\n\n", [Message(b"ping", b"a")]),
    "a name after the data": (b"data: a\nevent: ping\n\n", [Message(b"ping", b"a")]),
    "a name is for one event": (
        b"event: ping\ndata: a\n\ndata: b\n\n",
        [Message(b"ping", b"a"), Message(None, b"b")],
    ),
    "the last name counts": (b"event: x\nevent: y\ndata: a\n\n", [Message(b"y", b"a")]),
    "an empty name is none": (b"event:\ndata: a\n\nevent\ndata: b\n\n", data(b"a", b"b")),
    "an empty name takes an earlier one back": (b"event: x\nevent:\ndata: a\n\n", data(b"a")),
    "an event without data resets the name": (b"event: x\n\ndata: a\n\n", data(b"a")),
    "an event without data is not dispatched": (b"event: x\nid: 1\nretry: 2\n\n", []),
    "an event without its blank line is not dispatched": (b"data: a\n\ndata: b\n", data(b"a")),
}


@pytest.mark.parametrize(("stream", "expected"), STREAMS.values(), ids=STREAMS.keys())
def test_stream_gives_the_same_messages_however_it_is_cut(
    stream: bytes, expected: list[Message]
) -> None:
    for chunks in [*every_cut_in_three(stream), byte_by_byte(stream)]:
        assert expected == parse(chunks), chunks


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", b""),
        (b"id: 1\ndata: a\n\n", b"1"),
        (b"id: 1\n\n", b"1"),
        (b"id: 1\n\ndata: a\n\n", b"1"),
        (b"id: 1\n\nid: 2\ndata: a\n", b"1"),
        (b"id: 1\nid: 2\n\n", b"2"),
        (b"id: 1\n\nid: a\0b\n\n", b"1"),
        (b"id: 1\n\nid\n\n", b""),
        (b"id: 1\n\nid:\n\n", b""),
        (b"id:  gen:7\r\n\r\n", b" gen:7"),
    ],
)
def test_last_event_id_is_the_one_in_force_at_the_last_blank_line(
    stream: bytes, expected: bytes
) -> None:
    for chunks in every_cut_in_three(stream):
        parser = SSEParser()
        parse(chunks, parser)
        assert expected == parser.last_event_id, chunks


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", None),
        (b"retry: 1500\n", 1500),
        (b"retry:0\n", 0),
        (b"retry: 007\n\n", 7),
        (b"retry: 1\nretry: 2\n", 2),
        (b"retry: 1\nretry: x\n", 1),
        (b"retry\nretry:\n", None),
        (b"retry: 15s\n", None),
        (b"retry: -1\n", None),
        (b"retry: +1\n", None),
        (b"retry: 1.5\n", None),
        (b"retry: 1_0\n", None),
        (b"retry:  1\n", None),
        ("retry: ١\n".encode(), None),
        (b"retry: " + b"9" * 5000 + b"\n", None),
    ],
)
def test_retry_takes_ascii_digits_only(stream: bytes, expected: int | None) -> None:
    parser = SSEParser()

    parser.feed(stream)

    assert expected == parser.retry


def test_each_message_comes_with_the_id_in_force_however_the_stream_is_cut() -> None:
    stream = b"data: a\n\nid: 1\ndata: b\n\ndata: c\n\nid: 2\n\ndata: d\n\nid\ndata: e\n\n"

    for chunks in every_cut_in_three(stream):
        parser = SSEParser()
        pairs = [pair for chunk in chunks for pair in parser.feed_with_ids(chunk)]

        assert [(event_id, message.data) for event_id, message in pairs] == [
            (b"", b"a"),
            (b"1", b"b"),
            (b"1", b"c"),
            (b"2", b"d"),
            (b"", b"e"),
        ]


def test_comments_are_counted() -> None:
    stream = b":\n\n: ping\ndata: a\n:\n\ndata:: no comment\n\n"
    for chunks in every_cut_in_three(stream):
        parser = SSEParser()
        parse(chunks, parser)
        assert parser.comments == 3, chunks


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"", None),
        (b"data: a\n\n", None),
        (b"data: a\n\r", None),
        (b"data: a\n", Message(None, b"a")),
        (b"data: a\r", Message(None, b"a")),
        (b"data: a", Message(None, b"a")),
        (b"data: a\n\ndata: [DONE]", Message(None, b"[DONE]")),
        (b"event: x\ndata: a\ndata: b", Message(b"x", b"a\nb")),
        (b"data: a\nevent: x", Message(b"x", b"a")),
        (b"data: a\n: ping", Message(None, b"a")),
        (b"event: x\n", None),
        (b"dat", None),
        (b": ping", None),
        (BOM + b"data: a", Message(None, b"a")),
        (BOM[:2], None),
    ],
)
def test_finish_returns_the_event_whose_blank_line_is_missing(
    stream: bytes, expected: Message | None
) -> None:
    for chunks in every_cut_in_three(stream):
        parser = SSEParser()
        parse(chunks, parser)
        assert expected == parser.finish(), chunks
        assert parser.finish() is None, chunks


def test_event_without_its_blank_line_leaves_the_last_event_id() -> None:
    parser = SSEParser()
    parser.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b")

    pending = parser.finish()

    assert Message(None, b"b") == pending
    assert parser.last_event_id == b"1"


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"data:" + b"x" * 16, id="a line that has not ended"),
        pytest.param(b"data:" + b"x" * 16 + b"\n", id="a data line"),
        pytest.param(b"data:" + b"x" * 16 + b"\r", id="a data line that ends in CR"),
        pytest.param(b":" + b"x" * 20 + b"\n", id="a comment"),
        pytest.param(b"event:" + b"x" * 15 + b"\n", id="a name"),
        pytest.param(b"data:abcdefghij\n" * 2, id="two data lines together"),
        pytest.param(b"data\n" * 22, id="the joints of empty data lines"),
        pytest.param(b"data: a\n\nid:" + b"x" * 18 + b"\n", id="an id after an event"),
    ],
)
def test_line_or_event_beyond_the_bound_kills_the_parser(stream: bytes) -> None:
    for chunks in [*every_cut_in_three(stream), byte_by_byte(stream)]:
        parser = SSEParser(max_event_bytes=20)
        with pytest.raises(EventTooLarge, match="20 bytes") as raised:
            parse(chunks, parser)
        assert raised.value.max_event_bytes == 20
        with pytest.raises(EventTooLarge):
            parser.feed(b"\n\ndata: a\n\n")
        with pytest.raises(EventTooLarge):
            parser.finish()


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        pytest.param(b"data:" + b"x" * 15 + b"\r\n\r\n", data(b"x" * 15), id="a line"),
        pytest.param(
            b"data:abcdefghij\ndata:abcdefghi\n\n", data(b"abcdefghij\nabcdefghi"), id="data"
        ),
        pytest.param(b":" + b"x" * 19 + b"\n", [], id="a comment"),
        pytest.param(b": ping\n" * 9 + b"data:a\n\n", data(b"a"), id="many comments"),
        pytest.param(b"unknown: field\n" * 9, [], id="many unknown fields"),
        pytest.param(b"data: abcdefgh\n\n" * 4, data(*[b"abcdefgh"] * 4), id="many events"),
    ],
)
def test_line_and_event_up_to_the_bound_are_taken(stream: bytes, expected: list[Message]) -> None:
    for chunks in [*every_cut_in_three(stream), byte_by_byte(stream)]:
        assert expected == parse(chunks, SSEParser(max_event_bytes=20)), chunks


def test_default_bound_is_a_mebibyte() -> None:
    fits = b"data:" + b"x" * ((1 << 20) - len(b"data:"))

    assert data(b"x" * ((1 << 20) - 5)) == SSEParser().feed(fits + b"\n\n")
    with pytest.raises(EventTooLarge, match="1048576 bytes"):
        SSEParser().feed(fits + b"x")


@pytest.mark.parametrize("chunk", [b"x", b"\ndata:xy"], ids=["one long line", "many short lines"])
def test_a_byte_of_a_large_event_costs_what_a_byte_of_a_small_one_does(chunk: bytes) -> None:
    def seconds_per_byte(size: int, attempts: int) -> float:
        chunks = [b"data:", *[chunk] * (size // len(chunk))]
        best = float("inf")
        for _ in range(attempts):
            parser = SSEParser(max_event_bytes=1 << 21)
            begin = time.process_time()
            parse(chunks, parser)
            best = min(best, time.process_time() - begin)
        return best / size

    small = seconds_per_byte(1 << 13, attempts=9)
    large = seconds_per_byte(1 << 20, attempts=1)

    # A parser that copies or searches what it holds for each chunk takes ten times as long.
    assert large < 5 * small
