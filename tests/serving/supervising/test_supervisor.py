"""The supervisor itself, with a crew that is none."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NoReturn

import pytest
import trio

from trioproxy.config import Settings
from trioproxy.serving.supervising import supervise
from trioproxy.serving.supervising import supervisor as module


class Crew:
    """One that is told to go in the step in which all are ready."""

    async def start(self, number: int) -> None:
        signal.raise_signal(signal.SIGTERM)
        for _ in range(10):  # in which it is heard
            await trio.lowlevel.cancel_shielded_checkpoint()


@asynccontextmanager
async def open_crew(*_: object) -> AsyncGenerator[Crew]:
    yield Crew()


async def test_a_signal_in_the_step_in_which_all_are_ready_is_heeded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def reload() -> NoReturn:
        raise AssertionError("nobody asks for it")

    monkeypatch.setattr(module, "_open_crew", open_crew)
    told: list[list[str]] = []
    settings = Settings(bind="127.0.0.1:0", workers=2)
    with trio.fail_after(5):
        await supervise(settings, [], on_listening=told.append, reload=reload)
    assert told == []
