"""Live and Generation: what runs, and when each token came; and that every view is for everyone."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.clients.browser import Browser
from tests.clients.relay import open_relay
from tests.page.visiting import CUT_OFF, ENDLESS, NOT_FOUND, Visit, open_paced, violations_of, visit
from tests.web.service import COMPLETIONS

SEQS = range(1, 20_001)

DRAW_CHART = """async (timing) => {
  const { chart, readTimeline } = await import("/page/chart.js");
  const drawn = chart(timing, readTimeline(timing), 1000);
  return [drawn.querySelectorAll(".gaps rect").length, drawn.querySelector(".events").outerHTML];
}"""

CREATION: dict[str, Any] = {
    "path": COMPLETIONS,
    "body": {"prompt": "The river", "max_tokens": ENDLESS, "model": "tiny"},
}


async def test_live_shows_what_runs_and_stops_it(browser: Browser) -> None:
    def scene(visit: Visit) -> dict[str, str]:
        visit.show("live")
        visit.page.get_by_text("There is no generation").wait_for()
        created = trio.from_thread.run(service.create, CREATION)
        row = visit.page.get_by_role("row", name=created["id"][:12])
        row.get_by_text("running").wait_for()
        visit.wait(lambda: row.locator("[data-label='Tokens']").inner_text() not in ("–", "0"))
        visit.wait(lambda: "gap" in (row.get_by_role("img").get_attribute("aria-label") or ""))
        visit.wait(lambda: row.locator("[data-label='Tokens/s']").inner_text() != "–")
        cells = {
            label: row.locator(f"[data-label='{label}']").inner_text()
            for label in ("Model", "Readers", "TTFT")
        }
        visit.press(f"Stop {created['id'][:12]}")
        row.get_by_text("cancelled: stopped").wait_for()
        trio.from_thread.run(service.wait_aborted, 1)
        return cells

    async with open_paced() as service:
        cells = await visit(browser, service.url, scene)

    assert cells["Model"] == "tiny"
    assert cells["Readers"] == "0"
    assert cells["TTFT"].endswith("ms")


async def test_live_that_is_cut_off_resumes(browser: Browser) -> None:
    def scene(visit: Visit) -> list[str | None]:
        def asked() -> list[str | None]:
            return [
                request.headers.get("last-event-id")
                for request in visit.requests
                if request.url.endswith("/v1/generations/events")
            ]

        visit.show("live")
        created = trio.from_thread.run(service.create, CREATION)
        visit.wait(lambda: relay.cuts_left == 0 and len(asked()) == 4)
        row = visit.page.get_by_role("row", name=created["id"][:12])
        row.get_by_text("running").wait_for()
        trio.from_thread.run(service.http.delete, f"/v1/generations/{created['id']}")
        row.get_by_text("cancelled: stopped").wait_for()
        return asked()

    async with (
        open_paced() as service,
        open_relay(service.url, cuts=3, longest_run=4, retry=False) as relay,
    ):
        first, *others = await visit(browser, relay.url, scene, expected=CUT_OFF)

    assert first is None
    read = [last_id.split(":") for last_id in others if last_id is not None]
    assert len(read) == 3
    assert len({board for board, _ in read}) == 1
    seqs = [int(seq) for _, seq in read]
    assert sorted(seqs) == seqs


async def test_generation_shows_when_its_tokens_came_and_who_read_them(browser: Browser) -> None:
    def scene(visit: Visit) -> tuple[str, dict[str, str]]:
        visit.show("playground")
        visit.start(ENDLESS)
        visit.press("Add SSE viewer")
        visit.wait_cursor(1, 30)
        visit.press("Add WebSocket viewer")
        visit.wait_cursor(2, 60)
        visit.follow("Timing")
        visit.page.get_by_role("row", name="R2").wait_for()
        visit.press("Stop")
        visit.page.get_by_text("cancelled: stopped").wait_for()
        visit.wait(lambda: numbers(visit)["Cancel to closed"] != "–")
        path = visit.page.locator("path.events").get_attribute("d") or ""
        assert path.startswith("M")
        assert path.count("V") > 20
        return visit.page.locator("figcaption").inner_text(), numbers(visit)

    async with open_paced() as service:
        caption, told = await visit(browser, service.url, scene)

    assert caption.startswith("Events over time: ")
    assert "the first token after" in caption
    assert "–" not in told.values()
    assert 50 < float(told["Tokens/s"]) < 150


async def test_chart_marks_what_stands_out_and_draws_no_more_than_can_be_seen(
    browser: Browser,
) -> None:
    timeline = [[seq, seq * 0.001 + 0.01 * (seq > 700) + 0.5 * (seq > 9_000)] for seq in SEQS]
    timing = {
        "timeline": timeline,
        "readers": [],
        "inter_token_seconds": {"p50": 0.001},
        "duration_seconds": None,
        "ttft_seconds": 0.001,
    }

    def scene(visit: Visit) -> tuple[int, str]:
        visit.show("live")
        gaps, path = visit.page.evaluate(DRAW_CHART, timing)
        return gaps, path

    async with open_paced() as service:
        gaps, path = await visit(browser, service.url, scene)

    assert gaps == 2
    assert 100 < path.count("H") <= 1000 / 0.5


def numbers(visit: Visit) -> dict[str, str]:
    """The numbers of the view, by their names."""
    labels = visit.page.locator(".numbers dt").all_inner_texts()
    return dict(zip(labels, visit.page.locator(".numbers dd").all_inner_texts(), strict=True))


async def test_generation_that_is_not_there_is_said_to_be_missing(browser: Browser) -> None:
    def scene(visit: Visit) -> None:
        visit.show("generation/gen_0")
        visit.page.get_by_text("It cannot be looked at: there is no generation gen_0").wait_for()

    async with open_paced() as service:
        await visit(browser, service.url, scene, expected=NOT_FOUND)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_view_is_accessible_and_fits(browser: Browser, scheme: Any) -> None:
    pytest.importorskip("axe_playwright_python")

    def scene(visit: Visit) -> dict[str, list[str]]:
        visit.page.emulate_media(color_scheme=scheme)
        found: dict[str, list[str]] = {}
        visit.show("live")
        visit.page.get_by_text("There is no generation").wait_for()
        found["nothing runs"] = violations_of(visit)
        visit.follow("Playground")
        found["nothing started"] = violations_of(visit)
        visit.start(ENDLESS)
        visit.press("Add 5 viewers")
        visit.wait_cursor(5, 30)
        visit.press("Pause viewer 1")
        visit.press("Drop viewer 2")
        visit.wait_state(2, "dropped")
        found["playground"] = violations_of(visit)
        visit.follow("Live")
        visit.page.get_by_role("button", name="Stop gen_").wait_for()
        found["live"] = violations_of(visit)
        visit.page.get_by_role("link", name="gen_").first.click()
        visit.page.get_by_role("row", name="R5").wait_for()
        found["generation"] = violations_of(visit)
        visit.press("Stop")
        visit.page.get_by_text("cancelled: stopped").wait_for()
        found["generation that has ended"] = violations_of(visit)
        return found

    async with open_paced() as service:
        found = await visit(browser, service.url, scene)

    assert {view: [] for view in found} == found


async def test_what_is_done_by_keyboard_alone(browser: Browser) -> None:
    def scene(visit: Visit) -> str:
        keyboard = visit.page.keyboard
        visit.show("playground")
        visit.page.get_by_label("Linger, seconds").focus()
        keyboard.press("Tab")
        keyboard.press("Enter")  # Start
        button = visit.page.get_by_role("button", name="Add SSE viewer")
        visit.wait(button.is_enabled)
        button.focus()
        keyboard.press("Space")
        visit.wait_cursor(1, 5)
        stop = visit.page.get_by_role("button", name="Stop for everyone")
        stop.focus()
        outline = stop.evaluate("(button) => getComputedStyle(button).outlineStyle")
        keyboard.press("Enter")
        visit.wait_state(1, "read to the end")
        return outline

    async with open_paced() as service:
        outline = await visit(browser, service.url, scene)

    assert outline == "solid"
