"""Line ends, NUL and terminal escapes in what a client may choose: no header, no log line and no
event of a stream is made of them."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from tests.attacks.listening import listening
from tests.attacks.standing import open_attacked, read_to_end, statuses
from tests.web.service import COMPLETION, COMPLETIONS, CREATION, read_events
from tests.web.sockets import open_socket
from trioproxy.telemetry import GenerationLog, LogFormat

TITLE = "\x1b]0;owned\x07\x9b31m"
"""A title for the terminal's window, and red."""

EVIL = f'a\r\nX-Evil: 1\r\n\r\ndata: evil\n\nid: 1\0{TITLE}\u2028"evil"'
"""A header and an event besides."""

RAW = ["a\r\nX-Evil: 1", "a\rX-Evil: 1", "a\nX-Evil: 1", "a\0b", "a\x0b\x0cb"]
HEADERS = ["Authorization", "X-Generation-Key", "X-Fanout", "X-Linger", "Last-Event-ID", "Accept"]
LOG_FORMATS: list[LogFormat] = ["json", "text"]


def assert_unharmed(answered: bytes) -> None:
    head, _, body = answered.partition(b"\r\n\r\n")
    assert b"\r\nx-evil" not in head.lower()
    assert not {0, 7, 27} & set(head)
    assert b"\ndata: evil" not in body
    assert b"\nid: 1" not in body


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("value", RAW)
async def test_a_header_is_one_header_or_none(name: str, value: str) -> None:
    """Of a value with a CRLF its client has made two headers itself: what is left of the first is
    all that reaches the engine under that name."""
    sent = (
        f"POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost\r\n{name}: {value}\r\n"
        "Connection: close\r\nContent-Length: 2\r\n\r\n{}"
    ).encode()
    async with open_attacked() as service:
        answered = await service.told(sent)

        requests = service.engine.requests()
        for request in requests:
            assert request.values(name.lower().encode()) in ([], [b"a"])
            assert request.values(b"x-evil") == [b"1"]
    assert statuses(answered)[0] in ((200, 400) if value == RAW[0] else (400,))
    assert bool(requests) == (statuses(answered)[0] == 200)
    assert_unharmed(answered)


@pytest.mark.parametrize("log_format", LOG_FORMATS)
@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", f"/v1/generations/{quote(EVIL)}", b""),
        ("DELETE", f"/v1/generations/{quote(EVIL, safe='')}", b""),
        ("GET", f"/v1/generations/{quote(EVIL)}/events?last_event_id={quote(EVIL)}", b""),
        ("GET", f"/v1/generations/{quote(EVIL)}/events?mode={quote(EVIL)}", b""),
        ("GET", f"/v1/responses/{quote(EVIL, safe='')}?starting_after={quote(EVIL)}", b""),
        ("GET", f"/page/{quote(EVIL, safe='')}", b""),
        ("GET", f"/{quote(EVIL)}", b""),
        ("GET", f"/{quote(TITLE)}", b""),
        ("GET", f"/v1/{quote(TITLE)}", b""),
        ("GET", f"/v1/{quote(EVIL, safe='')}", b""),
        ("GET", f"/v1/{quote(EVIL.replace(chr(10), ''), safe='')}", b""),
        ("POST", f"{COMPLETIONS}?last_event_id={quote(EVIL)}", b"{}"),
        ("POST", COMPLETIONS, json.dumps(COMPLETION | {"model": EVIL}).encode()),
        ("POST", COMPLETIONS, json.dumps({"stream": EVIL}).encode()),
        ("POST", COMPLETIONS, b'{"model": "' + EVIL.encode() + b'"}'),
        ("POST", "/v1/generations", json.dumps(CREATION | {"path": EVIL}).encode()),
        ("POST", "/v1/generations", json.dumps(CREATION | {"mode": EVIL}).encode()),
        ("POST", "/v1/generations", json.dumps(CREATION | {EVIL: 1}).encode()),
        ("POST", "/v1/responses", json.dumps({"background": EVIL}).encode()),
    ],
)
async def test_what_a_client_says_is_no_header_and_no_line_of_the_log(
    log_format: LogFormat, method: str, target: str, body: bytes
) -> None:
    headers = {"connection": "close"}
    with listening(log_format) as log:
        async with open_attacked() as service:
            log.truncate(0)
            log.seek(0)
            async with service.request(method, target, headers=headers, body=body) as client:
                answered = await read_to_end(client)
            service.engine.requests()
            lines = log.getvalue().removesuffix("\n").split("\n")

    assert_unharmed(answered)
    assert len(lines) == 1
    assert lines[0].isprintable()
    if log_format == "json":
        assert json.loads(lines[0])["event"] == "request"


@pytest.mark.parametrize("log_format", LOG_FORMATS)
@pytest.mark.parametrize("model", [EVIL, TITLE])
async def test_the_line_of_a_generations_end_is_one(log_format: LogFormat, model: str) -> None:
    with listening(log_format) as log:
        async with open_attacked() as service:
            created = await service.create(
                {"path": COMPLETIONS, "body": COMPLETION | {"model": model}, "linger": 5}
            )
            await service.outcome_of(created["id"])
            generation = service.proxy.hub.get(created["id"])
            log.truncate(0)
            log.seek(0)
            GenerationLog().ended(generation.watch)  # type: ignore[arg-type]
            [line] = log.getvalue().removesuffix("\n").split("\n")

    assert created["model"] == model
    assert line.isprintable()


async def test_a_models_name_makes_no_line_of_the_metrics() -> None:
    async with open_attacked() as service:
        await service.http.post(COMPLETIONS, json=COMPLETION | {"model": EVIL})
        exposed = (await service.http.get("/metrics")).text

    assert all(
        line.startswith(("#", "gen_ai_", "trioproxy_")) for line in exposed.split("\n") if line
    )
    assert "\nX-Evil" not in exposed


@pytest.mark.parametrize("key", [EVIL, "", "\x1b[31m", "k" * 512])
async def test_over_a_websocket_it_comes_back_as_a_string_or_not_at_all(key: str) -> None:
    async with open_attacked() as service, open_socket(service) as socket:
        pong = await socket.ask(type="ping", ref=EVIL)
        refusals = [
            await socket.ask(type=EVIL, ref=EVIL),
            await socket.ask(type="subscribe", generation=EVIL, ref=EVIL),
            await socket.ask(type="cancel", generation=EVIL, ref=EVIL),
            await socket.ask(type="generate", path=EVIL, body={}, ref=EVIL),
            await socket.ask(type="generate", path=COMPLETIONS, body={"model": 1}, ref=EVIL),
        ]
        started = await socket.ask(
            type="generate", path=COMPLETIONS, body={"model": EVIL}, key=key, ref=EVIL
        )
        await socket.hear_to_end()

    assert pong == {"type": "pong", "ref": EVIL}
    assert {(refused["type"], refused["ref"]) for refused in refusals} == {("error", EVIL)}
    assert (started["type"], started["ref"]) == ("generation", EVIL)


async def test_what_resumes_is_an_id_of_here_or_refused() -> None:
    ids = ["gen_0:1\ufeff", "gen_0:\u0661", "gen_0:-1", "gen_0:1_0", "gen_0:+1", ":" * 60_000]
    async with open_attacked() as service:
        answers = [
            await service.http.post(
                COMPLETIONS, json=COMPLETION, headers={b"last-event-id": each.encode()}
            )
            for each in ids
        ]

        assert service.engine.connections == []
    assert {answer.status_code for answer in answers} == {400}


async def test_a_stream_has_the_ids_of_its_own_generation_only() -> None:
    body = COMPLETION | {"model": EVIL, "prompt": EVIL}
    async with (
        open_attacked() as service,
        service.ask(body, headers={"x-generation-key": "\x80\xff evil: 1"}) as client,
    ):
        generation_id = (await client.response_head()).headers["x-generation-id"]
        events = await read_events(client)

    assert [event.id for event in events] == [f"{generation_id}:{seq}" for seq in (1, 2)]
