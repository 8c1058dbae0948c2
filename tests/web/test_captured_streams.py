"""Streams as llama.cpp (b11549) sent them, of every route, through the proxy: each payload's bytes
reach every reader, however the engine's bytes were cut."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.web.service import open_scripted, read_events
from tests.wire.chunking import byte_by_byte, cut
from trioproxy.wire import SSEParser, dialect_for

CAPTURES = Path(__file__).parents[1] / "wire" / "captures"
ROUTES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": []}),
    "completions": ("/v1/completions", {"prompt": ""}),
    "messages": ("/v1/messages", {"messages": []}),
    "native": ("/completion", {"prompt": ""}),
    "responses": ("/v1/responses", {"input": ""}),
}
NAMES = sorted(path.stem for path in CAPTURES.glob("*.body") if not path.stem.startswith("err_"))


def chunks_of(stream: bytes, chunking: str) -> list[bytes]:
    if chunking == "bytewise":
        return byte_by_byte(stream)
    if chunking == "whole":
        return [stream]
    dice = random.Random(stream)
    return cut(stream, [dice.randrange(len(stream)) for _ in range(100)])


@pytest.mark.parametrize("chunking", ["bytewise", "random", "whole"])
@pytest.mark.parametrize("name", NAMES)
async def test_every_reader_gets_the_engines_bytes(name: str, chunking: str) -> None:
    stream = (CAPTURES / f"{name}.body").read_bytes()
    parser = SSEParser()
    sent = parser.feed(stream)
    assert len(sent) > 2
    path, body = ROUTES[name.partition("_")[0]]
    numbered = (dialect := dialect_for(path)) and dialect.numbered
    expected = [
        (message.name, numbered(message.data, number) if numbered else message.data)
        for number, message in enumerate(sent)
    ]
    async with (
        open_scripted() as service,
        service.ask(body | {"stream": True}, path=path) as client,
    ):
        call = await service.upstream.next_call()
        await call.start()
        await call.write_raw(
            b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks_of(stream, chunking) if c)
        )
        await call.write_raw(b"0\r\n\r\n")
        generation_id = (await client.response_head()).headers["x-generation-id"]
        events = await read_events(client)
        async with service.get(f"/v1/generations/{generation_id}/events") as late:
            await late.response_head()
            same_events = await read_events(late)
        outcome = await service.outcome_of(generation_id)

    received = [(event.name and event.name.encode(), event.data) for event in events]
    assert expected == received
    assert [event.id for event in events] == [
        f"{generation_id}:{seq}" for seq in range(1, len(sent) + 1)
    ]
    assert same_events == events
    assert outcome == {"kind": "completed", "reason": None}


def test_the_engines_own_bytes_are_changed_by_a_number_alone() -> None:
    stream = (CAPTURES / "responses.body").read_bytes()
    numbered = dialect_for("/v1/responses").numbered  # type: ignore[union-attr]
    assert numbered is not None

    for number, message in enumerate(SSEParser().feed(stream)):
        data = numbered(message.data, number)
        assert json.loads(data) == json.loads(message.data) | {"sequence_number": number}
        assert data.startswith(message.data[:-1])
