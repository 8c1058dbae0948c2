"""The playground: one generation, and many who read it in one page."""

from __future__ import annotations

import trio

from tests.clients.browser import Browser
from tests.clients.reading import read_uncut
from tests.clients.relay import open_relay
from tests.page.visiting import CUT_OFF, ENDLESS, Visit, open_paced, visit
from tests.web.service import text_of
from trioproxy.simulator import generate_text
from trioproxy.wire import ROUTES

PROMPT = "Tell me about a river."
FIVE = range(1, 6)


def begin(visit: Visit, tokens: int) -> str:
    """Start a generation with five viewers; its id."""
    visit.show("playground")
    generation_id = visit.start(tokens)
    visit.press("Add 5 viewers")
    visit.wait_cursor(5, 1)
    return generation_id


async def test_five_viewers_read_the_same_text_of_one_call(browser: Browser) -> None:
    def scene(visit: Visit) -> tuple[list[str], list[str]]:
        begin(visit, 80)
        for number in FIVE:
            visit.wait_state(number, "read to the end")
        visit.page.get_by_text("✓ The same text in all 5").wait_for()
        kinds = visit.page.locator(".viewer .kind").all_inner_texts()
        return [visit.text(number) for number in FIVE], kinds

    async with open_paced() as service:
        texts, kinds = await visit(browser, service.url, scene)

    assert texts == ["".join(generate_text(PROMPT, 80))] * 5
    assert set(kinds) == {"SSE", "WebSocket"}
    assert service.engine.stats.calls == 1


async def test_every_route_is_asked_and_its_text_is_seen(browser: Browser) -> None:
    def scene(visit: Visit) -> dict[str, list[str]]:
        visit.show("playground")
        texts: dict[str, list[str]] = {}
        for path in ROUTES:
            visit.start(20, Route=path)
            visit.press("Add SSE viewer")
            visit.press("Add WebSocket viewer")
            for number in (1, 2):
                visit.wait_state(number, "read to the end")
            texts[path] = [visit.text(1), visit.text(2)]
        return texts

    async with open_paced() as service:
        texts = await visit(browser, service.url, scene)

    text = "".join(generate_text(PROMPT, 20))
    assert texts == {path: [text, text] for path in ROUTES}


async def test_paused_viewer_falls_behind_alone_and_catches_up(browser: Browser) -> None:
    def scene(visit: Visit) -> None:
        begin(visit, ENDLESS)
        visit.press("Pause viewer 1")
        visit.wait_state(1, "paused")
        at = visit.cursor(1)
        visit.wait(lambda: visit.lag(1) > 50)
        assert visit.cursor(1) == at
        for number in (2, 3, 4, 5):
            visit.wait_cursor(number, at + 50)
            assert visit.lag(number) < 50
        visit.press("Read on viewer 1")
        visit.wait(lambda: visit.lag(1) < 20)
        visit.press("Stop for everyone")

    async with open_paced() as service:
        await visit(browser, service.url, scene)


async def test_dropped_viewer_leaves_and_resumes_after_what_it_has_read(browser: Browser) -> None:
    def scene(visit: Visit) -> tuple[str, list[str]]:
        generation_id = begin(visit, ENDLESS)
        for number in (1, 2):  # one of each kind
            visit.press(f"Drop viewer {number}")
            visit.wait_state(number, "dropped")
        trio.from_thread.run(service.wait_subscribers, 3)
        left = [visit.cursor(number) for number in (1, 2)]
        visit.wait_cursor(3, max(left) + 50)
        assert [visit.cursor(number) for number in (1, 2)] == left
        for number in (1, 2):
            visit.press(f"Resume viewer {number}")
            visit.wait_cursor(number, max(left) + 50)
            visit.viewer(number).get_by_text(f"resumed after event {left[number - 1]}").wait_for()
        visit.press("Stop for everyone")
        for number in FIVE:
            visit.wait_state(number, "read to the end")
        return generation_id, [visit.text(number) for number in FIVE]

    async with open_paced() as service:
        generation_id, texts = await visit(browser, service.url, scene)
        uncut = await read_uncut(service, generation_id)

    assert texts == [text_of(uncut[:-2])] * 5  # the error and [DONE]
    assert service.engine.stats.calls == 1


async def test_reload_goes_on_with_every_viewer_where_it_was(browser: Browser) -> None:
    def scene(visit: Visit) -> tuple[str, list[str], list[int], list[str | None]]:
        generation_id = begin(visit, ENDLESS)
        visit.press("Drop viewer 2")
        visit.press("Pause viewer 3")
        visit.wait_state(2, "dropped")
        visit.wait_state(3, "paused")
        visit.wait_cursor(5, 50)
        before = [visit.cursor(number) for number in FIVE]
        visit.requests.clear()
        visit.page.reload()
        for number in (1, 4, 5):
            visit.wait_cursor(number, before[number - 1] + 50)
        visit.wait_state(2, "dropped")
        visit.wait_state(3, "paused")
        stood = [visit.cursor(number) - before[number - 1] for number in (2, 3)]
        asked = [
            request.headers.get("last-event-id")
            for request in visit.requests
            if request.url.endswith("/events")
        ]
        visit.press("Resume viewer 2")
        visit.press("Read on viewer 3")
        visit.press("Stop for everyone")
        for number in FIVE:
            visit.wait_state(number, "read to the end")
        return generation_id, [visit.text(number) for number in FIVE], stood, asked

    async with open_paced() as service:
        generation_id, texts, stood, asked = await visit(browser, service.url, scene)
        uncut = await read_uncut(service, generation_id)

    assert texts == [text_of(uncut[:-2])] * 5
    assert stood == [0, 0]
    assert len(asked) >= 3
    assert all(after is not None and after.startswith(generation_id) for after in asked)
    assert service.engine.stats.calls == 1


async def test_stopping_ends_the_call_and_every_viewer(browser: Browser) -> None:
    def scene(visit: Visit) -> None:
        begin(visit, ENDLESS)
        visit.press("Stop for everyone")
        trio.from_thread.run(service.wait_aborted, 1)
        for number in FIVE:
            visit.wait_state(number, "read to the end")
            assert visit.lag(number) == 0
        visit.page.get_by_text("cancelled: stopped").wait_for()

    async with open_paced() as service:
        await visit(browser, service.url, scene)
        await service.wait_released()


async def test_viewers_of_a_live_generation_begin_in_the_middle(browser: Browser) -> None:
    def scene(visit: Visit) -> str:
        visit.show("playground")
        visit.start(ENDLESS, Mode="live")
        visit.press("Add SSE viewer")
        visit.wait_cursor(1, 50)
        visit.press("Add WebSocket viewer")
        visit.wait_cursor(2, 50)
        visit.press("Stop for everyone")
        for number in (1, 2):
            visit.wait_state(number, "read to the end")
        return visit.text(2)

    async with open_paced() as service:
        text = await visit(browser, service.url, scene)

    assert text not in ("", None)
    assert text[:20] != "".join(generate_text(PROMPT, 20))[:20]


async def test_viewers_that_are_cut_off_lose_nothing(browser: Browser) -> None:
    def scene(visit: Visit) -> list[str]:
        begin(visit, 400)
        for number in FIVE:
            visit.wait_state(number, "read to the end")
        return [visit.text(number) for number in FIVE]

    async with (
        open_paced() as service,
        open_relay(service.url, cuts=6, longest_run=60, retry=False) as relay,
    ):
        texts = await visit(browser, relay.url, scene, expected=CUT_OFF)

    assert texts == ["".join(generate_text(PROMPT, 400))] * 5
    assert relay.cuts_left == 0


async def test_api_key_goes_with_every_call_and_every_websocket(
    browser: Browser,
) -> None:
    def scene(visit: Visit) -> list[str | None]:
        visit.show("playground")
        visit.page.get_by_label("API key").fill("sesame")
        visit.press("Use")
        visit.requests.clear()
        visit.start(20)
        visit.press("Add 5 viewers")
        visit.wait_state(5, "read to the end")
        return [
            request.headers.get("authorization")
            for request in visit.requests
            if "/v1/" in request.url
        ]

    async with open_paced() as service:
        keys = await visit(browser, service.url, scene)

    assert set(keys) == {"Bearer sesame"}
