"""An engine that was taken over, or repeats what it was told to: it makes no event, no header and
no end that is not its own, and its numbers and its nesting bring nothing down."""

from __future__ import annotations

import json

import pytest

from tests.attacks.engine import answer
from tests.attacks.standing import Attacked, open_attacked
from tests.support.rawhttp import RawClient
from tests.support.sse import SseEvent
from tests.web.service import COMPLETION, COMPLETIONS, next_event, read_events
from tests.web.sockets import open_socket
from trioproxy.wire import ROUTES

DONE = b"data: [DONE]\n\n"
DATA = [
    b"a\rb",
    b"a\r\n\r\nevent: evil\r\ndata: b",
    "a\u2028event: evil\u2029\u0085data: b".encode(),
    b"a\x0bevent: evil\x0c\x1cdata: b\x1e",
    b"a\nid: gen_evil:7",
    b"a\nretry: 1\nevent: evil",
    b"a\ndata: id: gen_evil:7\ndata:\ndata: data: b",
    b"a\0\xff\xfe",
    b"\xef\xbb\xbfa",
    b": comment",
]
"""Each as an engine may put it behind ``data: `` without a thought for its line ends."""


async def read(client: RawClient) -> list[SseEvent]:
    assert (await client.response_head()).status == 200
    return await read_events(client)


@pytest.mark.parametrize("data", DATA)
async def test_a_reader_sees_the_ids_and_ends_of_the_proxy_alone(data: bytes) -> None:
    """What the engine framed as events are events; each has its number, and none more."""
    stream = b"id: gen_evil:99\nretry: 1\ndata: " + data + b"\n\n" + DONE
    async with open_attacked() as service:
        service.engine.answer = answer(stream)
        async with service.ask() as client:
            events = await read(client)
            generation_id = client.head.headers["x-generation-id"]
        async with service.get(f"/v1/generations/{generation_id}/events") as client:
            again = await read(client)

    assert [event.id for event in events] == [
        f"{generation_id}:{seq}" for seq in range(1, len(events) + 1)
    ]
    assert events[-1].data == b"[DONE]"
    assert again == events
    assert not any(b"\r" in event.data for event in events)


@pytest.mark.parametrize("data", DATA)
async def test_over_a_websocket_it_is_a_string(data: bytes) -> None:
    async with open_attacked() as service, open_socket(service) as socket:
        service.engine.answer = answer(b"data: " + data + b"\n\n" + DONE)
        await socket.ask(type="generate", path=COMPLETIONS, body={})
        heard = await socket.hear_to_end()

    assert {message["type"] for message in heard} == {"event", "end"}
    assert [each["seq"] for each in heard[:-1]] == list(range(1, len(heard)))


LINE = b'{"message":{"content":"a"},"done":%b}\n'


async def test_a_line_of_json_stays_one_line() -> None:
    kind = b"application/x-ndjson"
    async with open_attacked() as service:
        service.engine.answer = answer(b'{"a":\r"b"}\n' + LINE % b"true", kind=kind)
        async with service.ask({}, path="/api/chat") as client:
            await client.response_head()
            body = await client.body()

    assert body == b'{"a": "b"}\n' + LINE % b"true"


BROKEN_HEADS = {
    "CR in a value": b"x-a: b\rx-evil: c",
    "NUL in a value": b"x-a: b\0c",
    "escape in a value": b"x-a: \x1b[31m",
    "folded": b"x-a: b\r\n x-evil: c",
    "no name": b": b",
    "space in a name": b"x a: b",
    "another length": b"content-length: 5",
    "coding besides": b"transfer-encoding: chunked",
    "huge": b"x-a: " + b"b" * 200_000,
    "ten thousand": b"\r\n".join([b"x-a: b" * 2] * 10_000),
}


@pytest.mark.parametrize("path", [COMPLETIONS, "/v1/embeddings"])
@pytest.mark.parametrize("header", BROKEN_HEADS.values(), ids=BROKEN_HEADS.keys())
async def test_a_head_that_is_none_is_a_502(path: str, header: bytes) -> None:
    async with open_attacked() as service:
        service.engine.answer = answer(DONE, header)
        asked = await service.http.post(path, json=COMPLETION)

    assert (asked.status_code, asked.json()["error"]["code"]) == (502, "upstream_broken")
    assert "x-evil" not in asked.headers
    assert "\x1b" not in asked.text


BROKEN_BODIES = {
    "no size": b"zz\r\nhi\r\n0\r\n\r\n",
    "size that overflows": b"FFFFFFFFFFFFFFFFF\r\nhi\r\n0\r\n\r\n",
    "negative size": b"-1\r\nhi\r\n0\r\n\r\n",
    "longer than its size": b"1\r\nhi\r\n0\r\n\r\n",
    "extension without end": b"1;" + b"a" * 200_000,
    "trailers without end": b"0\r\n" + b"x-a: b\r\n" * 20_000,
}


@pytest.mark.parametrize("body", BROKEN_BODIES.values(), ids=BROKEN_BODIES.keys())
async def test_chunks_that_are_none_are_cut_or_told(body: bytes) -> None:
    async with open_attacked() as service:
        service.engine.answer = (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n" + body
        )
        async with service.ask() as client:
            events = await read(client)
        async with service.ask(path="/v1/embeddings") as client:
            await client.response_head()
            await client.body()
            assert not client.ended_properly

    assert json.loads(events[-2].data)["error"]["code"] == "upstream_broken"
    assert events[-1].data == b"[DONE]"


@pytest.mark.parametrize(
    "flood", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 E\r\nlink: a\r\n\r\n", b"\r\n"]
)
async def test_a_flood_before_the_head_is_not_taken(flood: bytes) -> None:
    async with open_attacked() as service:
        service.engine.answer = flood * 100_000
        asked = await service.http.post(COMPLETIONS, json=COMPLETION)

    assert (asked.status_code, asked.json()["error"]["code"]) == (502, "upstream_broken")


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 1000 ?\r\ncontent-length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_is_no_answer_is_a_502(sent: bytes) -> None:
    async with open_attacked() as service:
        service.engine.answer = sent
        asked = await service.http.post(COMPLETIONS, json=COMPLETION)

    assert (asked.status_code, asked.json()["error"]["code"]) == (502, "upstream_broken")


async def told_in_band(service: Attacked) -> SseEvent:
    """The error of a stream whose head went out before the engine's came."""
    async with service.ask() as client:
        assert (await client.response_head()).status == 200
        error = await next_event(client)
        assert (await next_event(client)).data == b"[DONE]"
        assert await client.next_event() is None
    return error


@pytest.mark.parametrize(
    "header",
    [
        b"content-type: text/html\xff\xc2\x85data: evil",
        b"transfer-encoding: \xe2\x80\xa8data: evil",
        b"transfer-encoding: gzip\x85id: evil:1",
    ],
)
async def test_an_error_that_quotes_the_engine_is_one_event(header: bytes) -> None:
    async with open_attacked(commit_after=0.0) as service:
        service.engine.answer = b"HTTP/1.1 200 OK\r\n" + header + b"\r\n\r\n"
        error = await told_in_band(service)

    assert error.id is None
    assert json.loads(error.data)["error"]["message"]


NUMBERS = [b"-1", b"1e400", b"10" * 200, b"9" * 5_000, b"1.5", b"NaN", b"true", b'"7"', b"[]"]
COUNTS = [
    *(b"prompt_tokens", b"completion_tokens", b"input_tokens", b"output_tokens", b"eval_count"),
    *(b"prompt_eval_count", b"tokens_evaluated", b"tokens_predicted", b"sequence_number"),
]


def counted(number: bytes) -> bytes:
    told = b",".join(b'"%b":%b' % (name, number) for name in COUNTS)
    return b'{%b,"usage":{%b},"response":{"id":"r","usage":{%b}}}' % (told, told, told)


DEEP = b'{"choices":' + b"[" * 100_000
ODD = [
    *(DEEP, b'{"response":' + DEEP, b'{"a":' * 100_000, b'"error"', b"[DONE", b"{}" * 9, b"\xff\0"),
    b'{"choices":[{"text":"\\ud800"}],"id":"\\udfff","response":{"id":"\\ud800"},"message":1e999}',
    b'{"choices":[{"text":"a"}],"choices":7,"usage":0,"usage":{"completion_tokens":"x"}}',
]
ERRORS = [b'{"error":' + b"[" * 100_000, b'{"error":{"message":"\\ud800"}}', b'{"error":"\xff"}']


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "events",
    [[counted(number) for number in NUMBERS], ODD, *([error] for error in ERRORS)],
    ids=["numbers", "odd", *("error" for _ in ERRORS)],
)
async def test_no_event_brings_down_more_than_itself(path: str, events: list[bytes]) -> None:
    """Its readers get the events, and who asks how generations fare is answered."""
    is_lines = path.startswith("/api/")
    stream = b"".join((b"%b\n" if is_lines else b"data: %b\n\n") % event for event in events)
    kind = b"application/x-ndjson" if is_lines else b"text/event-stream"
    async with open_attacked() as service:
        service.engine.answer = answer(stream, kind=kind)
        async with service.ask({"stream": True}, path=path) as client:
            assert (await client.response_head()).status == 200
            body = await client.body()
            assert client.ended_properly
            generation_id = client.head.headers["x-generation-id"]
        one = f"/v1/generations/{generation_id}"
        for url in ("/v1/generations", one, f"{one}/timing", "/metrics"):
            assert (await service.http.get(url)).status_code == 200
    assert all(event.rstrip(b"}") in body for event in events)  # a number may be added
