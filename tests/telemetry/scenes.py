"""A generation whose tokens come when a test says, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from tests.support.source import ScriptedSource
from trioproxy.fanout import Hub, Limits, open_hub
from trioproxy.telemetry import Listener, Telemetry
from trioproxy.wire import OPENAI_COMPLETIONS, Dialect, Message, Tally


def token(text: str) -> bytes:
    return b'{"choices":[{"text":"%b"}]}' % text.encode()


@dataclass
class Asked:
    """What a generation was started for."""

    path: str = "/v1/completions"
    dialect: Dialect = OPENAI_COMPLETIONS
    model: str | None = "tiny"
    tally: Tally = field(default_factory=lambda: Tally(OPENAI_COMPLETIONS))
    accepted_at: float = field(default_factory=trio.current_time)
    trace_context: dict[str, str] = field(default_factory=dict)
    is_replay: bool = False


@dataclass
class Scene:
    """A hub that is watched, and the source of its one generation, whose key is "key"."""

    telemetry: Telemetry
    hub: Hub
    source: ScriptedSource
    asked: Asked

    def arrive(self, *tokens: bytes) -> None:
        """Let one read bring these."""
        for data in tokens:
            self.asked.tally.count(Message(None, data))
        self.source.arrive(*tokens)

    def join(self, *, after: int | None = None, linger: float = 0.0):
        return self.hub.join("key", self.source, after=after, linger=linger, origin=self.asked)


@asynccontextmanager
async def open_scene(
    *, listeners: Sequence[Listener] = (), limits: Limits | None = None
) -> AsyncGenerator[Scene]:
    telemetry = Telemetry(listeners)
    async with open_hub(limits, watch=telemetry.watch) as hub:
        yield Scene(telemetry, hub, ScriptedSource(), Asked())
