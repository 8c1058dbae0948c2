"""The response reader: heads, chunks as they were framed, and proper ends told from cuts."""

import h11
import pytest

from tests.support.response import Head, ResponseReader

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LENGTH_3 = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"


def read_body(reader: ResponseReader) -> list[bytes]:
    """The chunks up to the body's end; one that wants more bytes than were fed shows as empty."""
    assert reader.next_head() is not None
    chunks: list[bytes] = []
    while chunk := reader.next_chunk():
        chunks.append(chunk)
    return chunks if chunk is None else [*chunks, chunk]


@pytest.mark.parametrize(
    ("stream", "chunks", "body"),
    [
        pytest.param(
            CHUNKED + b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", [b"ab", b"cde"], "complete", id="chunks"
        ),
        pytest.param(CHUNKED + b"2\r\nab\r\n", [b"ab"], "cut", id="no last chunk"),
        pytest.param(CHUNKED + b"2\r\nab\r\n0\r\n", [b"ab"], "cut", id="cut in the last chunk"),
        pytest.param(CHUNKED + b"5\r\nab", [b"ab"], "cut", id="cut in a chunk"),
        pytest.param(CHUNKED, [], "cut", id="cut after the head"),
        pytest.param(LENGTH_3 + b"abc", [b"abc"], "complete", id="length"),
        pytest.param(LENGTH_3 + b"ab", [b"ab"], "cut", id="less than its length"),
        pytest.param(UNTIL_CLOSE + b"abc", [b"abc"], "complete", id="until close"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", [], "complete", id="no body"),
    ],
)
def test_body_ends_as_its_framing_says_or_is_cut(
    stream: bytes, chunks: list[bytes], body: str
) -> None:
    reader = ResponseReader("GET")
    reader.feed(stream)
    reader.feed(b"")

    received = read_body(reader)

    assert (chunks, body) == (received, reader.body)
    assert reader.next_chunk() is None


def test_chunks_keep_their_bounds_when_bytes_come_one_by_one() -> None:
    reader = ResponseReader("GET")
    reader.feed(CHUNKED)
    reader.next_head()
    received: list[bytes] = []

    for byte in b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n":
        reader.feed(bytes([byte]))
        received.append(reader.next_chunk() or b"")

    assert [chunk for chunk in received if chunk] == [b"ab", b"cde"]
    assert reader.body == "complete"


@pytest.mark.parametrize("head", [CHUNKED, LENGTH_3, UNTIL_CLOSE])
def test_body_stays_open_until_something_ends_it(head: bytes) -> None:
    reader = ResponseReader("GET")
    reader.feed(head)

    assert read_body(reader) == [b""]
    assert reader.body == "open"


def test_reset_cuts_a_body_that_only_a_close_delimits() -> None:
    reader = ResponseReader("GET")
    reader.feed(UNTIL_CLOSE + b"abc")
    assert read_body(reader) == [b"abc", b""]

    reader.cut()

    assert (reader.next_chunk(), reader.body) == (None, "cut")


@pytest.mark.parametrize("body", [b"zz\r\n", b"1\r\nabc\r\n0\r\n\r\n"])
def test_broken_framing_is_not_taken_for_a_cut(body: bytes) -> None:
    reader = ResponseReader("GET")
    reader.feed(CHUNKED + body)

    with pytest.raises(h11.RemoteProtocolError):
        read_body(reader)


def test_response_to_head_has_no_body() -> None:
    reader = ResponseReader("HEAD")
    reader.feed(LENGTH_3)

    assert read_body(reader) == []
    assert reader.body == "complete"


def test_head_is_told_in_lower_case_with_repeated_headers_joined() -> None:
    reader = ResponseReader("GET")
    reader.feed(b"HTTP/1.1 404 Not Found\r\nVia: a\r\nX-Two: One\r\nvia: b\r\n")
    assert reader.next_head() is None
    reader.feed(b"\r\n")

    head = reader.next_head()

    assert Head(404, {"via": "a, b", "x-two": "One"}) == head
    assert head == reader.head


def test_interim_responses_are_passed_over() -> None:
    reader = ResponseReader("GET")
    reader.feed(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + LENGTH_3)

    assert Head(200, {"content-length": "3"}) == reader.next_head()


def test_eof_before_the_heads_end_raises() -> None:
    reader = ResponseReader("GET")
    reader.feed(b"HTTP/1.1 200 OK\r\n")
    reader.feed(b"")

    with pytest.raises(h11.RemoteProtocolError, match="closed"):
        reader.next_head()


def test_bytes_behind_a_response_belong_to_the_next() -> None:
    first = ResponseReader("GET")
    first.feed(LENGTH_3 + b"abc" + LENGTH_3 + b"def")
    assert read_body(first) == [b"abc"]

    second = ResponseReader("GET", first.unread)

    assert read_body(second) == [b"def"]
