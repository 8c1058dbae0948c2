"""A visit to the page: a tab of a browser, what is seen in it, and what it must not do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from tests.clients.browser import Browser
from tests.web.service import SimulatedService, open_service
from trioproxy.simulator import EngineSettings, open_engine

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Locator, Page, Request, WebSocket

_T = TypeVar("_T")

RATE = 100.0
"""Tokens a second: so slow that what is done between two of them is done in the middle."""

ENDLESS = 100_000
"""As many tokens as no test waits for."""

TIME_LIMIT_MILLISECONDS = 10_000.0


@asynccontextmanager
async def open_paced(rate: float = RATE, **settings: Any) -> AsyncGenerator[SimulatedService]:
    """A proxy in front of an engine that takes its time."""
    async with (
        open_engine(settings=EngineSettings(rate=rate, ttft=0.02)) as engine,
        open_service(engine.url, **settings) as service,
    ):
        yield SimulatedService(service.url, service.proxy, service.http, engine)


class Visit:
    """A tab that shows the page of the proxy at ``url``.

    Attributes:
        page: Playwright's own view of the tab.
        requests: what the page has asked for, WebSockets not included.
        complaints: what the browser wrote into its console, and requests to other origins.
    """

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.requests: list[Request] = []
        self.complaints: list[str] = []
        self._url = url
        context.set_default_timeout(TIME_LIMIT_MILLISECONDS)
        self.page: Page = context.new_page()
        self.page.on("console", lambda message: self._complain(message.type, message.text))
        self.page.on("pageerror", lambda error: self._complain("error", str(error)))
        self.page.on("request", self._note)
        self.page.on("websocket", self._note_socket)

    def show(self, view: str) -> None:
        """Open the view of this name, as who enters its address does."""
        self.page.goto(f"{self._url}/#/{view}")
        self.page.wait_for_selector("h1")

    def follow(self, name: str) -> None:
        """Go to a view by the links of the page."""
        self.page.get_by_role("link", name=name, exact=True).click()

    def press(self, name: str) -> None:
        """Press the one button of this name."""
        self.page.get_by_role("button", name=name, exact=True).click()

    def start(self, tokens: int, **choices: str) -> str:
        """Start a generation in the playground; its id."""
        self.page.get_by_label("Max tokens").fill(str(tokens))
        for label, value in choices.items():
            self.page.get_by_role("combobox", name=label, exact=True).select_option(value)
        with self.page.expect_response("**/v1/generations") as answer:
            self.press("Start")
        return answer.value.json()["id"]

    def viewer(self, number: int) -> Locator:
        return self.page.get_by_role("article", name=f"Viewer {number}", exact=True)

    def text(self, number: int) -> str:
        return self.viewer(number).locator(".text").inner_text()

    def cursor(self, number: int) -> int:
        return _number(self.viewer(number).locator(".cursor").inner_text())

    def lag(self, number: int) -> int:
        return _number(self.viewer(number).locator(".lag").inner_text().partition(" ")[0])

    def wait_state(self, number: int, state: str) -> None:
        """Wait until a viewer is in this state."""
        self.viewer(number).locator(".state", has_text=state).wait_for()

    def wait(self, is_so: Callable[[], bool]) -> None:
        """Wait until it is so. Fails if it is not, in time."""
        for _ in range(int(TIME_LIMIT_MILLISECONDS / 50)):
            if is_so():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"it did not come about; the page shows\n{self._shown()}")

    def wait_cursor(self, number: int, least: int) -> None:
        """Wait until a viewer has read so far."""
        self.wait(lambda: self.cursor(number) >= least)

    def _shown(self) -> str:
        return self.page.locator("main").inner_text()

    def _complain(self, kind: str, text: str) -> None:
        self.complaints.append(f"{kind}: {text}")

    def _note(self, request: Request) -> None:
        self.requests.append(request)
        self._check_origin(request.url)

    def _note_socket(self, socket: WebSocket) -> None:
        self._check_origin(socket.url)

    def _check_origin(self, url: str) -> None:
        if urlsplit(url).netloc != urlsplit(self._url).netloc:
            self.complaints.append(f"a request to another origin: {url}")


CUT_OFF = "net::ERR_INCOMPLETE_CHUNKED_ENCODING"
NOT_FOUND = "the server responded with a status of 404"
"""What a browser writes into its console by itself, whatever the page makes of it."""


async def visit(
    browser: Browser, url: str, scene: Callable[[Visit], _T], *, expected: str | None = None
) -> _T:
    """What a scene returns that is played in a tab, which must give no cause for complaint but for
    the `expected` one."""

    def play(context: BrowserContext) -> tuple[_T, list[str]]:
        visit = Visit(context, url)
        return scene(visit), visit.complaints

    value, complaints = await browser.play(play)
    assert [said for said in complaints if expected is None or expected not in said] == []
    return value


def violations_of(visit: Visit) -> list[str]:
    """What axe finds, on a wide screen and on a narrow one; and what does not fit."""
    from axe_playwright_python.sync_playwright import Axe

    violations: list[str] = []
    for width in (1280, 390):
        visit.page.set_viewport_size({"width": width, "height": 900})
        results = Axe().run(visit.page).response
        violations += [
            f"{violation['id']}: {node['html']}"
            for violation in results["violations"]
            for node in violation["nodes"]
        ]
        if visit.page.evaluate("document.documentElement.scrollWidth") > width:
            violations.append(f"wider than {width} px")
    return violations


def _number(text: str) -> int:
    # A viewer that has just been added has its figures with the next frame that is drawn.
    return int(text.replace(",", "") or 0)
