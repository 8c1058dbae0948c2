"""A real browser: Chromium, driven by Playwright."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import trio

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

_T = TypeVar("_T")

_ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",  # who is root, as in a container, has no choice
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
]
_STEP_MILLISECONDS = 20_000.0


@dataclass(frozen=True, slots=True)
class Browser:
    """The browser with this path."""

    program: str

    async def play(self, scene: Callable[[BrowserContext], _T]) -> _T:
        """Start it with an empty profile, play the scene, and close it.

        A scene is synchronous and runs in a thread of its own, from where it may use
        `trio.from_thread`. Cancelling does not stop it; each of its steps has a time limit.
        """
        return await trio.to_thread.run_sync(self._play, scene)

    def _play(self, scene: Callable[[BrowserContext], _T]) -> _T:
        from playwright.sync_api import sync_playwright  # who does not have it skips these tests

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=self.program, args=_ARGUMENTS)
            try:
                context = browser.new_context()
                context.set_default_timeout(_STEP_MILLISECONDS)
                return scene(context)
            finally:
                browser.close()
