"""Clients whose connections break 100 times: nothing is lost, and nothing comes twice."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.clients.nodejs import Node
from tests.clients.reading import assert_dense, read_uncut, seen
from tests.clients.relay import open_relay
from tests.simulator.speech import BY_PATH
from tests.web.service import SimulatedService, open_simulated
from trioproxy.simulator import generate_text

CUTS = 100
TOKENS = 400
PACED = {"x-sim-tokens": str(TOKENS), "x-sim-rate": "400"}
"""For a second, so that what is read is replayed for some time and live for some."""

TEXT = "".join(generate_text("Hello", TOKENS))

EVENT_STREAMS = [path for path in BY_PATH if not path.startswith("/api/")]
"""The routes that stream server-sent events; Ollama's stream lines, which have no ids."""

EVENT_NAMES = [
    "message",  # of an event without a name
    "message_start",
    "ping",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
]


def text_of(path: str, events: list[list[str]]) -> str:
    speech = BY_PATH[path]
    decoded = [data if data == "[DONE]" else json.loads(data) for _, _, data in events]
    return "".join(speech.token(event) or "" for event in decoded)


def body_of(path: str) -> dict[str, Any]:
    return {**BY_PATH[path].body, "stream": True}


async def assert_read_whole(
    service: SimulatedService, path: str, generation_id: str, events: list[list[str]]
) -> None:
    """The events are those of the generation, each once, and say all that the engine said."""
    assert_dense([event_id for event_id, _, _ in events], generation_id)
    assert seen(await read_uncut(service, generation_id)) == events
    assert text_of(path, events) == TEXT


async def test_eventsource_of_npm_resumes_by_itself_and_stops_at_the_end(node: Node) -> None:
    paths = ["/v1/completions", "/v1/messages"] * 4
    async with (
        open_simulated() as service,
        open_relay(service.url, cuts=CUTS, longest_run=40) as relay,
    ):
        created = [
            await service.create({"path": path, "body": body_of(path)}, headers=PACED)
            for path in paths
        ]
        ids = [generation["id"] for generation in created]
        urls = [f"{relay.url}/v1/generations/{generation_id}/events" for generation_id in ids]
        results = await node.run("eventsource", urls=urls, names=EVENT_NAMES)

        for path, generation_id, result in zip(paths, ids, results, strict=True):
            assert result["code"] == 204
            await assert_read_whole(service, path, generation_id, result["events"])
        assert relay.cuts_left == 0
        assert service.engine.stats.calls == len(paths)


# fetch-event-source takes note of an event's id before it has its data, and so loses an event
# that is cut between the two, whoever the server is.
@pytest.mark.parametrize(("client", "clean"), [("fetch", False), ("fetch-event-source", True)])
@pytest.mark.parametrize("path", EVENT_STREAMS)
async def test_request_that_is_sent_again_with_the_last_id_reads_on(
    node: Node, path: str, client: str, clean: bool
) -> None:
    readers = 4
    async with (
        open_simulated() as service,
        open_relay(service.url, cuts=CUTS, longest_run=20, clean=clean) as relay,
    ):
        call = {
            "url": relay.url + path,
            "headers": PACED | {"x-linger": "30"},
            "body": body_of(path),
        }
        results = await node.run("resume", client=client, calls=[call] * readers)

        for events in results:
            await assert_read_whole(service, path, events[0][0].split(":")[0], events)
        assert len({events[0][0] for events in results}) == readers
        assert relay.cuts_left == 0
        assert service.engine.stats.calls == readers
