"""A real browser: what pages do with an EventSource, a WebSocket and fetch."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.clients.browser import Browser
from tests.clients.cutting import CUTS, EVENT_NAMES, assert_each_read_whole, create_all
from tests.clients.origin import open_origin
from tests.clients.reading import parse, read_uncut, seen
from tests.clients.relay import open_relay
from tests.simulator.speech import BY_PATH
from tests.web.service import (
    CHAT,
    COMPLETION,
    COMPLETIONS,
    SimulatedService,
    open_simulated,
    text_of,
)
from trioproxy.simulator import generate_text

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

PROMPT = "The river"
TOKENS = 60
TEXT = "".join(generate_text(PROMPT, TOKENS))
PACED = {"x-sim-tokens": str(TOKENS), "x-sim-rate": "100"}
ENDLESS = {"x-sim-tokens": "100000", "x-sim-rate": "100"}
CHAT_BODY: dict[str, Any] = {"messages": [{"role": "user", "content": PROMPT}], "stream": True}
CREATION: dict[str, Any] = {"path": COMPLETIONS, "body": COMPLETION}
COMMAND: dict[str, Any] = {
    "type": "generate",
    "path": COMPLETIONS,
    "body": COMPLETION | {"max_tokens": TOKENS},
}
"""What asks for a generation over a WebSocket."""

HAS_ENDED = "() => 'ended' in document.body.dataset"


@pytest.fixture
def origin() -> Generator[str]:
    """The origin of the pages: none of the proxy's."""
    with open_origin() as origin:
        yield origin


def watch(context: BrowserContext, origin: str, generation: str) -> Page:
    """A new tab that watches the generation with this URL."""
    page = context.new_page()
    page.goto(f"{origin}/watch.html?generation={generation}")
    return page


def wait_events(page: Page, number: int) -> None:
    page.wait_for_function(f"() => events.length >= {number}")


async def play_client(browser: Browser, origin: str, function: str, *arguments: object) -> Any:
    """What a function of the page `client.html` returns."""

    def scene(context: BrowserContext) -> Any:
        page = context.new_page()
        page.goto(f"{origin}/client.html")
        begin = f"(given) => void {function}(...given).then((told) => window.told = told)"
        page.evaluate(begin, list(arguments))
        return page.wait_for_function("() => window.told").json_value()

    return await browser.play(scene)


@pytest.mark.parametrize("path", BY_PATH)
async def test_eventsource_that_is_cut_loses_nothing_and_stops_at_the_end(
    browser: Browser, origin: str, path: str
) -> None:
    async with (
        open_simulated(cors_origins=origin) as service,
        open_relay(service.url, cuts=CUTS, longest_run=15) as relay,
    ):
        ids = await create_all(service, path)
        urls = [f"{relay.url}/v1/generations/{generation_id}/events" for generation_id in ids]
        read = await play_client(browser, origin, "readToEnd", urls, EVENT_NAMES)

        await assert_each_read_whole(service, path, ids, read)
        assert relay.cuts_left == 0


async def test_two_tabs_watch_one_generation_through_a_reload_and_a_stop(
    browser: Browser, origin: str
) -> None:
    def scene(context: BrowserContext) -> list[list[list[str]]]:
        first, second = (watch(context, origin, generation) for _ in range(2))
        wait_events(first, 10)
        wait_events(second, 10)
        before = second.evaluate("events.length")
        second.reload()
        wait_events(second, before + 10)
        trio.from_thread.run(service.wait_subscribers, 2)
        first.click("#stop")
        for page in (first, second):
            page.wait_for_function(HAS_ENDED)
        return [page.evaluate("events") for page in (first, second)]

    async with (
        open_simulated(cors_origins=origin) as service,
        open_relay(service.url) as relay,  # the browser would come back for its 204 after 3 s
    ):
        generation_id = (await service.create(CREATION, headers=ENDLESS))["id"]
        generation = f"{relay.url}/v1/generations/{generation_id}"
        first, second = await browser.play(scene)
        await service.wait_aborted(1)
        uncut = await read_uncut(service, generation_id)

    assert first == second == seen(uncut)
    assert '"code":"cancelled"' in first[-2][2]
    assert service.engine.stats.calls == 1


async def test_tab_that_is_closed_stops_the_engine(browser: Browser, origin: str) -> None:
    def scene(context: BrowserContext) -> None:
        page = context.new_page()
        page.goto(f"{origin}/client.html")
        page.evaluate("(given) => void ask(...given)", [url, ENDLESS, COMPLETION])
        trio.from_thread.run(service.wait_subscribers, 1)
        page.close()
        trio.from_thread.run(service.wait_aborted, 1)

    async with open_simulated(cors_origins=origin) as service:
        url = service.url + COMPLETIONS
        await browser.play(scene)
        await service.wait_released()


async def test_page_of_an_allowed_origin_streams_with_fetch(browser: Browser, origin: str) -> None:
    async with open_simulated(cors_origins=origin) as service:
        answer = await play_client(browser, origin, "ask", service.url + CHAT, PACED, CHAT_BODY)
        uncut = await read_uncut(service, answer["generation"])

    events = parse("".join(answer["pieces"]).encode())
    assert len(answer["pieces"]) > TOKENS / 4
    assert events == uncut
    assert text_of(events) == TEXT


async def test_page_of_another_origin_is_refused_and_the_engine_not_called(
    browser: Browser, origin: str
) -> None:
    async with open_simulated(cors_origins="https://app.example") as service:
        asked = await play_client(browser, origin, "ask", service.url + CHAT, PACED, CHAT_BODY)
        socket = await play_client(browser, origin, "converse", _socket_url(service, "ws"), COMMAND)

    assert asked == {"error": "TypeError: Failed to fetch"}
    assert socket == {"heard": [], "code": 1006, "protocol": ""}
    assert service.engine.stats.calls == 0


async def test_websockets_bring_the_events_of_the_event_stream(
    browser: Browser, origin: str
) -> None:
    async with open_simulated(cors_origins=origin) as service:
        many = await play_client(browser, origin, "converse", _socket_url(service, "ws"), COMMAND)
        [started, *events, end] = many["heard"]
        generation_id = started["generation"]
        url = _socket_url(service, f"generations/{generation_id}/ws")
        one = await play_client(browser, origin, "converse", url, None)
        uncut = await read_uncut(service, generation_id)

    assert (many["protocol"], started["type"]) == ("trioproxy.v1", "generation")
    assert one == {"heard": [*events, end], "code": 1000, "protocol": "trioproxy.v1"}
    assert (end["type"], end["outcome"]) == ("end", {"kind": "completed", "reason": None})
    assert seen(uncut) == [
        [f"{generation_id}:{event['seq']}", event["name"] or "message", event["data"]]
        for event in events
    ]
    assert text_of(uncut) == TEXT


def _socket_url(service: SimulatedService, path: str) -> str:
    return f"{service.url.replace('http', 'ws', 1)}/v1/{path}"
