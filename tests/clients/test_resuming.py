"""The clients of Node whose connections break 100 times on each route: nothing is lost, and
nothing comes twice."""

from __future__ import annotations

import pytest

from tests.clients.cutting import (
    CUTS,
    EVENT_NAMES,
    PACED,
    READERS,
    assert_each_read_whole,
    body_of,
    create_all,
)
from tests.clients.nodejs import Node
from tests.clients.relay import open_relay
from tests.simulator.speech import BY_PATH
from tests.web.service import open_simulated

EVENT_STREAMS = [path for path in BY_PATH if not path.startswith("/api/")]
"""The routes that stream server-sent events; Ollama's stream lines, which have no ids."""


@pytest.mark.parametrize("path", BY_PATH)
async def test_eventsource_of_npm_resumes_by_itself_and_stops_at_the_end(
    node: Node, path: str
) -> None:
    async with (
        open_simulated() as service,
        open_relay(service.url, cuts=CUTS, longest_run=15) as relay,
    ):
        ids = await create_all(service, path)
        urls = [f"{relay.url}/v1/generations/{generation_id}/events" for generation_id in ids]
        results = await node.run("eventsource", urls=urls, names=EVENT_NAMES)

        assert {result["code"] for result in results} == {204}
        await assert_each_read_whole(service, path, ids, [result["events"] for result in results])
        assert relay.cuts_left == 0


# fetch-event-source takes note of an event's id before it has its data, and so loses an event
# that is cut between the two, whoever the server is.
@pytest.mark.parametrize(("client", "clean"), [("fetch", False), ("fetch-event-source", True)])
@pytest.mark.parametrize("path", EVENT_STREAMS)
async def test_request_that_is_sent_again_with_the_last_id_reads_on(
    node: Node, path: str, client: str, clean: bool
) -> None:
    async with (
        open_simulated() as service,
        open_relay(service.url, cuts=CUTS, longest_run=15, clean=clean) as relay,
    ):
        call = {
            "url": relay.url + path,
            "headers": PACED | {"x-linger": "30"},
            "body": body_of(path),
        }
        results = await node.run("resume", client=client, calls=[call] * READERS)

        ids = [events[0][0].split(":")[0] for events in results]
        assert len(set(ids)) == READERS
        await assert_each_read_whole(service, path, ids, results)
        assert relay.cuts_left == 0
