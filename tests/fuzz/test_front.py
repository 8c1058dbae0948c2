"""The whole proxy at its socket: requests with something wrong somewhere are answered in HTTP, or
cut off, and the next one is answered."""

from __future__ import annotations

import logging
from collections.abc import Generator

import h11
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.attacks.engine import open_engine
from tests.attacks.standing import assert_answers
from tests.fuzz.budget import budget
from tests.fuzz.noise import spoiled
from tests.support.rawhttp import open_client
from tests.support.websocket import HANDSHAKE, PING, TEXT, frame
from tests.web.service import open_service

HOST = b"Host: localhost\r\n"
SOCKET = "".join(f"{name}: {value}\r\n" for name, value in HANDSHAKE.items()).encode()
JSON = b'Content-Length: 29\r\n\r\n{"prompt":"a","stream": true}'
REQUESTS = [
    b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"X-Fanout: replay\r\n" + JSON,
    b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Last-Event-ID: gen_0:1\r\n" + JSON,
    b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + b"X-Generation-Key: k\r\n" + JSON,
    b"POST /v1/messages HTTP/1.1\r\n" + HOST + b"X-Linger: 1\r\nX-Timing: 1\r\n" + JSON,
    b"POST /v1/responses?a=b HTTP/1.1\r\n" + HOST + b"Authorization: Bearer a\r\n" + JSON,
    b"POST /v1/embeddings HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    b"2;a=b\r\n{}\r\n0\r\nX: y\r\n\r\n",
    b"POST /v1/generations HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\n"
    b'Content-Length: 39\r\n\r\n{"path":"/v1/completions", "body": {  }}',
    b"POST /v1/generations HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n{]",
    b"GET /v1/generations/gen_0/events?mode=live HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /v1/responses/resp_0?stream=true&starting_after=1 HTTP/1.1\r\n" + HOST + b"\r\n",
    b"OPTIONS /v1/models HTTP/1.1\r\n" + HOST + b"Origin: http://a\r\n"
    b"Access-Control-Request-Method: POST\r\n\r\n",
    b"GET /metrics HTTP/1.0\r\nAuthorization: Basic bWU6dHAtcm9vdA==\r\n\r\n",
    b"HEAD / HTTP/1.1\r\n" + HOST + b'If-None-Match: W/"a"\r\n\r\n',
    b"DELETE /v1/generations/gen_0 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n",
    b"GET /v1/ws HTTP/1.1\r\n" + HOST + SOCKET + b"Sec-WebSocket-Protocol: trioproxy.v1\r\n\r\n",
]
TOKENS = [
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b"\0",
        b" ",
        b":",
        b"\t",
        b"/",
        b"..",
        b"%2e",
        b"%00",
        b"?",
    ),
    *(b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HEAD ", b"PATCH ", b"\xff", b"%ff", b"%zz", b"#"),
    *(b"0\r\n\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"9" * 30, b"-1"),
    *(
        b"Connection: close\r\n",
        b"Connection: upgrade\r\nUpgrade: websocket\r\n",
        SOCKET,
        b"{",
        b'"',
    ),
    *(frame(TEXT, b'{"type":"ping"}'), frame(PING), b"Host: evil\r\n", b"Expect: 100-continue\r\n"),
    *(b"Range: bytes=0-1\r\n", b"Accept-Encoding: gzip\r\n", b"Cookie: a=b; c\r\n", b"[" * 2_000),
    *(
        b"Content-Type: multipart/form-data; boundary=a\r\n",
        b"X-Linger: nan\r\n",
        b"X-Fanout: \r\n",
    ),
]
LISTENING = 0.15
"""How long each client waits for an answer, or for more of it, before it leaves; in seconds."""


class Complaints(logging.Handler):
    """What is logged that nobody foresaw."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(logging.Formatter().format(record))


@pytest.fixture
def complaints() -> Generator[Complaints]:
    handler = Complaints()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


@budget(30)
@given(batch=st.lists(spoiled(REQUESTS, TOKENS), min_size=12, max_size=40))
def test_whatever_is_sent_is_answered_in_http_or_cut_off(
    complaints: Complaints, batch: list[bytes]
) -> None:
    complaints.told.clear()

    answers = trio.run(all_answers, batch)

    assert not complaints.told, complaints.told[0]
    for sent, answered in zip(batch, answers, strict=True):
        assert_is_http(sent, answered)


async def all_answers(batch: list[bytes]) -> list[bytes]:
    """What comes back to each, sent at the same time."""
    answers = [b""] * len(batch)
    async with (
        open_engine() as engine,
        open_service(engine.url, heartbeat=0.1, upstream_keep_alive=0.0) as service,
    ):

        async def ask(number: int, sent: bytes) -> None:
            async with open_client(service.url) as client:
                with trio.move_on_after(LISTENING):
                    try:
                        await client.send(sent)
                        while data := await client.read_some():
                            answers[number] += data
                    except trio.BrokenResourceError:
                        pass  # it was cut off

        async with trio.open_nursery() as nursery:
            for number, sent in enumerate(batch):
                nursery.start_soon(ask, number, sent)
        for generation in list(service.proxy.hub.running):  # which may be there to linger
            generation.cancel("stopped")
        await service.wait_released()
        await assert_answers(service)
        engine_got = engine.requests()
    assert all(request.target.startswith(b"/") for request in engine_got)
    return answers


OFFER = [("host", "a"), ("connection", "upgrade"), ("upgrade", "websocket")]


def assert_is_http(sent: bytes, answered: bytes) -> None:
    """It is answers, one behind the other, of which the last may be cut; none tells a crash."""
    while answered:
        reader = h11.Connection(h11.CLIENT)
        reader.send(h11.Request(method="GET", target="/", headers=OFFER))
        reader.send(h11.EndOfMessage())
        reader.receive_data(answered)
        while not isinstance(event := reader.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                return
            if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
                return  # what follows is no HTTP
            if isinstance(event, h11.Response):
                assert event.status_code != 500
                if b"HEAD" in sent:
                    return  # which of them has a body, is not to be seen from here
        answered = reader.trailing_data[0]
