"""What a reader recorded, understood."""

import pytest

from benchmarks.answers import DONE, Answer, understand

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED_HEAD = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
TOKEN = b'id: gen_a:%d\ndata: {"choices":[{"delta":{"content":"%b"}}]}\n\n'
DONE_FRAME = b"data: [DONE]\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


WHOLE = (
    CHUNKED_HEAD
    + chunk(TOKEN % (1, b"a"))
    + chunk(b": ping\n\n" + TOKEN % (2, b"b") + DONE_FRAME)
    + b"0\r\n\r\n"
)


def cut(data: bytes, size: int) -> list[tuple[int, bytes]]:
    return [(at, data[at : at + size]) for at in range(0, len(data), size)]


def texts(answer: Answer) -> list[tuple[int | None, str]]:
    return [(event.seq, event.text) for event in answer.events]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, len(WHOLE)])
def test_an_answer_is_the_same_however_it_was_cut(size: int) -> None:
    answer = understand(cut(WHOLE, size))

    assert answer.status == 200
    assert texts(answer) == [(1, "a"), (2, "b"), (None, DONE)]
    assert answer.rest == b""


def test_a_body_without_a_coding_ends_with_the_connection() -> None:
    answer = understand([(0, HEAD + b"\r\n" + TOKEN % (1, b"a"))])

    assert texts(answer) == [(1, "a")]


def test_an_event_came_when_its_last_byte_did() -> None:
    frame = TOKEN % (1, b"a")
    pieces = [(5, HEAD + b"\r\n" + frame[:10]), (6, frame[10:-1]), (7, frame[-1:])]

    [event] = understand(pieces).events

    assert event.at == 7


def test_what_came_of_an_unfinished_frame_is_its_rest() -> None:
    frame = TOKEN % (1, b"a")

    answer = understand([(0, CHUNKED_HEAD + chunk(DONE_FRAME + frame)[:-20])])

    assert texts(answer) == [(None, DONE)]
    assert answer.rest == frame[:-18]


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\nContent-Ty"])
def test_an_answer_without_its_whole_head_has_no_status(data: bytes) -> None:
    assert understand([(0, data)]) == Answer(None, [], b"")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"choices":[{"delta":{"role":"assistant","content":""}}]}', ""),
        (b'{"choices":[{"delta":{},"finish_reason":"length"}]}', ""),
        (b'{"choices":[],"usage":{"total_tokens":3}}', ""),
        (b'{"error":{"message":"no"}}', '{"error":{"message":"no"}}'),
    ],
)
def test_the_text_of_an_event_is_its_token_or_all_of_it(data: bytes, text: str) -> None:
    [event] = understand([(0, HEAD + b"\r\ndata: " + data + b"\n\n")]).events

    assert event.text == text
