"""HTTP/1.1 as bytes: the same answer however its bytes are cut, and no answer of what is none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import httpx
import pytest

from trioproxy.upstream.transport.framing import (
    MAX_FRAMING_BYTES,
    AnswerParser,
    request_bytes,
)

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
OF_ONE = OK + b"Content-Length: 1\r\n\r\n"
EOF = b""


@dataclass
class Read:
    """What a parser made of an answer."""

    body: bytes
    parser: AnswerParser


def read(pieces: Iterable[bytes], *, method: str = "POST") -> Read:
    """Feed an answer to a parser until it has enough."""
    parser, body = AnswerParser(method), b""
    for piece in pieces:
        body += parser.feed(piece)
        if parser.is_complete or parser.flaw:
            break
    return Read(body, parser)


def cuts(answer: bytes) -> list[list[bytes]]:
    """The answer in one piece, in two at each place, and byte by byte; the end behind it."""
    halves = [[answer[:place], answer[place:], EOF] for place in range(1, len(answer))]
    return [[answer, EOF], *halves, [*(bytes([byte]) for byte in answer), EOF]]


# What comes, the method of its request, status, body, and whether the connection can be used again.
WHOLE: dict[str, tuple[bytes, str, int, bytes, bool]] = {
    "a length": (OK + b"Content-Length: 3\r\n\r\nabc", "POST", 200, b"abc", True),
    "no bytes": (OK + b"Content-Length: 0\r\n\r\n", "POST", 200, b"", True),
    "chunks": (CHUNKED + b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "POST", 200, b"abc", True),
    "chunks in upper case": (
        OK + b"TRANSFER-ENCODING: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
        "POST",
        200,
        b"0123456789",
        True,
    ),
    "extensions and trailers": (
        CHUNKED + b'1;a=b;c="d"\r\na\r\n0;e\r\nX-A: 1\r\nX-B: 2\r\n\r\n',
        "POST",
        200,
        b"a",
        True,
    ),
    "until the end": (OK + b"X-A: 1\r\n\r\nabc", "POST", 200, b"abc", False),
    "until the end, and nothing": (OK + b"\r\n", "POST", 200, b"", False),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", "POST", 204, b"", True),
    "not modified": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        "GET",
        304,
        b"",
        True,
    ),
    "interim answers": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: <a>\r\n\r\n" + OF_ONE + b"a",
        "POST",
        200,
        b"a",
        True,
    ),
    "to HEAD": (OK + b"Content-Length: 5\r\n\r\n", "HEAD", 200, b"", False),
    "to HEAD, in chunks": (CHUNKED, "HEAD", 200, b"", False),
    "a server that closes": (
        OK + b"Connection: close\r\nContent-Length: 1\r\n\r\na",
        "POST",
        200,
        b"a",
        False,
    ),
    "an old server": (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", "GET", 200, b"a", False),
    "an old server that would go on": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na",
        "GET",
        200,
        b"a",
        False,
    ),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\na", "GET", 200, b"a", True),
}


@pytest.mark.parametrize(
    ("answer", "method", "status", "body", "may_be_followed"), WHOLE.values(), ids=WHOLE.keys()
)
def test_answer_is_the_same_however_it_is_cut(
    answer: bytes, method: str, status: int, body: bytes, may_be_followed: bool
) -> None:
    for pieces in cuts(answer):
        answered = read(pieces, method=method)
        parser = answered.parser

        assert (parser.flaw, parser.is_complete) == (None, True), pieces
        assert (parser.status, answered.body) == (status, body), pieces
        assert parser.may_be_followed == may_be_followed, pieces


def test_head_is_that_of_the_final_answer_and_without_trailers() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"
    head = OK + b"X-A: 1\r\nx-a:\t2 \r\nX-B:\r\nTransfer-Encoding: chunked\r\n\r\n"

    for pieces in cuts(interim + head + b"0\r\nX-C: 3\r\n\r\n"):
        parser = read(pieces).parser

        assert parser.reason == b"OK"
        assert parser.headers == [
            (b"X-A", b"1"),
            (b"x-a", b"2"),
            (b"X-B", b""),
            (b"Transfer-Encoding", b"chunked"),
        ]


# What comes (the end behind it), what of the body comes at least, and a word of what is wrong.
BROKEN: dict[str, tuple[bytes, bytes, str]] = {
    "nothing": (b"", b"", "without an answer"),
    "half a head": (OK, b"", "before the answer was whole"),
    "an interim answer and no other": (
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"",
        "before the answer was whole",
    ),
    "less than its length": (
        OK + b"Content-Length: 5\r\n\r\nabc",
        b"abc",
        "before the answer was whole",
    ),
    "no last chunk": (CHUNKED + b"3\r\nabc\r\n", b"abc", "before the answer was whole"),
    "half a chunk": (CHUNKED + b"5\r\nabc", b"abc", "before the answer was whole"),
    "half an end": (CHUNKED + b"0\r\n", b"", "before the answer was whole"),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n", b"", "no HTTP"),
    "another version": (b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", b"", "HTTP/2.0"),
    "a status of two digits": (b"HTTP/1.1 20 OK\r\n\r\n", b"", "no HTTP"),
    "a switch of protocols": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"", "switched"),
    "a switch that is announced": (
        b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\nPRI *",
        b"",
        "switched",
    ),
    "bare line feeds": (b"HTTP/1.1 200 OK\nContent-Length: 1\n\na", b"", "no HTTP"),
    "a folded header": (OK + b"X-A: 1\r\n 2\r\nContent-Length: 0\r\n\r\n", b"", "no HTTP"),
    "NUL in a header": (OK + b"X-A: \0\r\nContent-Length: 0\r\n\r\n", b"", "no HTTP"),
    "a space in a header's name": (OK + b"X A: 1\r\n\r\n", b"", "no HTTP"),
    "a length and chunks": (
        OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"",
        "no HTTP",
    ),
    "two lengths": (OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", b"", "no HTTP"),
    "a length that is no number": (OK + b"Content-Length: +1\r\n\r\na", b"", "no HTTP"),
    "another coding": (OK + b"Transfer-Encoding: gzip\r\n\r\nabc", b"", "gzip"),
    "another coding in chunks": (
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"",
        "gzip",
    ),
    "two lines of codings": (
        OK + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"",
        "coding",
    ),
    "a size that is no number": (CHUNKED + b"1\r\na\r\nx\r\n", b"a", "no HTTP"),
    "a size below zero": (CHUNKED + b"-1\r\n", b"", "no HTTP"),
    "a size beyond measure": (CHUNKED + b"f" * 17 + b"\r\n", b"", "no HTTP"),
    "a chunk longer than its size": (CHUNKED + b"1\r\nabc\r\n0\r\n\r\n", b"a", "no HTTP"),
}


@pytest.mark.parametrize(("answer", "body", "told"), BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_answer_is_told_and_what_came_before_is_kept(
    answer: bytes, body: bytes, told: str
) -> None:
    for pieces in cuts(answer) if answer else [[EOF]]:
        answered = read(pieces)

        assert answered.parser.flaw is not None, pieces
        assert told in answered.parser.flaw, pieces
        assert answered.body == body, pieces
        assert not answered.parser.is_complete
        assert not answered.parser.may_be_followed


@pytest.mark.parametrize("stray", [b"a", b"HTTP/1.1 200 OK\r\n\r\n", OF_ONE + b"b", b"\0", b"\rb"])
@pytest.mark.parametrize("answer", [OF_ONE + b"a", CHUNKED + b"1\r\na\r\n0\r\n\r\n"])
def test_what_comes_behind_an_answer_leaves_it_whole_and_ends_its_connection(
    answer: bytes, stray: bytes
) -> None:
    answered = read([answer + stray])

    assert (answered.body, answered.parser.flaw) == (b"a", None)
    assert (answered.parser.is_complete, answered.parser.may_be_followed) == (True, False)
    assert answered.parser.headers == read([answer]).parser.headers


def without_end(start: bytes, more: bytes) -> tuple[bytes, bytes]:
    return start, more * (1024 // len(more))


ENDLESS = {
    "a header": without_end(OK + b"X-A: ", b"a"),
    "headers": without_end(OK, b"X-A: 1\r\n"),
    "interim answers": without_end(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a chunk's extensions": without_end(CHUNKED + b"1;", b"a"),
    "trailers": without_end(CHUNKED + b"0\r\n", b"X-A: 1\r\n"),
}


@pytest.mark.parametrize(("start", "more"), ENDLESS.values(), ids=ENDLESS.keys())
def test_framing_without_end_is_not_read_to_its_end(start: bytes, more: bytes) -> None:
    answered = read([start or more, *[more] * 1000])

    assert answered.parser.flaw is not None
    assert "does not end" in answered.parser.flaw
    assert len(answered.parser.headers) < MAX_FRAMING_BYTES


def test_much_framing_with_a_little_body_in_it_is_an_answer() -> None:
    tiny = b"1;extension=of-a-chunk\r\na\r\n" * 1000

    answered = read([CHUNKED, *[tiny] * 20, b"0\r\n\r\n"])

    assert (answered.body, answered.parser.flaw) == (b"a" * 20_000, None)


def test_all_chunks_of_a_read_are_one_piece() -> None:
    parser = AnswerParser("POST")
    parser.feed(CHUNKED)

    assert parser.feed(b"1\r\na\r\n1\r\nb\r\n1\r\nc") == b"abc"


# -- the request -----------------------------------------------------------------------------------


def test_request_is_written_as_it_is() -> None:
    headers = [(b"Host", b"engine.test"), (b"x-a", b"1 \xe9"), (b"x-a", b"")]

    head = request_bytes("POST", b"/v1?a=b", headers)

    assert head == b"POST /v1?a=b HTTP/1.1\r\nHost: engine.test\r\nx-a: 1 \xe9\r\nx-a: \r\n\r\n"


@pytest.mark.parametrize(
    ("method", "target", "name", "value"),
    [
        ("GET /x", b"/", b"a", b"1"),
        ("", b"/", b"a", b"1"),
        ("GÉT", b"/", b"a", b"1"),
        ("GET", b"/ HTTP/1.1\r\nX-A: 1", b"a", b"1"),
        ("GET", b"", b"a", b"1"),
        ("GET", b"/", b"a b", b"1"),
        ("GET", b"/", b"a:", b"1"),
        ("GET", b"/", b"", b"1"),
        ("GET", b"/", b"a", b"1\r\nx-b: 2"),
        ("GET", b"/", b"a", b"1\n"),
        ("GET", b"/", b"a", b"\0"),
    ],
)
def test_request_that_would_be_read_as_another_is_not_written(
    method: str, target: bytes, name: bytes, value: bytes
) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        request_bytes(method, target, [(name, value)])
