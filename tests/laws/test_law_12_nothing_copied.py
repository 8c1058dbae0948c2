"""Law 12: a subscriber costs no copy of anything: all are handed the same events, and an event is
rendered once for each wire format, by whoever needs it first."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import trioproxy.fanout
from tests.support.reading import read_to_end
from tests.support.source import ScriptedSource
from trioproxy.fanout import Batch, Event, open_hub


class Format:
    """A wire format that counts how often it rendered which event."""

    def __init__(self, prefix: bytes) -> None:
        self.rendered = Counter[int]()
        self._prefix = prefix

    def __call__(self, generation_id: str, event: Event) -> bytes:
        self.rendered[event.seq] += 1
        return self._prefix + event.data


async def test_all_subscribers_are_handed_the_same_bytes() -> None:
    payload = b"token" * 100
    source = ScriptedSource()
    source.complete(payload)
    async with open_hub() as hub:
        with ExitStack() as crowd:
            subscribers = [crowd.enter_context(hub.join("key", source)) for _ in range(20)]
            readings = [await read_to_end(subscriber) for subscriber in subscribers]

    for reading in readings:
        assert reading.told == readings[0].told
        assert reading.data[0] is payload


async def test_an_event_is_rendered_once_for_each_format_however_many_read_it() -> None:
    one, other = Format(b"1:"), Format(b"2:")
    source = ScriptedSource()
    source.complete(b"a", b"b")
    async with open_hub() as hub:
        with ExitStack() as crowd:
            subscribers = [crowd.enter_context(hub.join("key", source)) for _ in range(20)]
            batches: list[Batch] = [await anext(subscriber) for subscriber in subscribers]
            texts = [(batch.render(one), batch.render(other)) for batch in batches]

    assert texts == [(b"1:a1:b1:[DONE]", b"2:a2:b2:[DONE]")] * 20
    assert one.rendered == {1: 1, 2: 1, 3: 1}
    assert other.rendered == {1: 1, 2: 1, 3: 1}


async def test_nothing_is_rendered_for_nobody() -> None:
    source = ScriptedSource()
    source.arrive(b"a")
    async with open_hub() as hub:
        with hub.join("key", source) as subscriber:
            (event,) = (await anext(subscriber)).events
            transcript = subscriber.generation.transcript
            unrendered = transcript.held_bytes
            transcript.frame(event, Format(b""))

            assert transcript.held_bytes == unrendered + len(b"a")


async def test_a_frame_that_goes_out_alone_is_the_cached_one() -> None:
    format_ = Format(b"data: ")
    source = ScriptedSource()
    source.arrive(b"a")
    async with open_hub() as hub:
        with hub.join("key", source) as one, hub.join("key", source) as other:
            first = (await anext(one)).render(format_)
            second = (await anext(other)).render(format_)

    assert first is second


def test_the_core_knows_nothing_but_trio_and_the_standard_library() -> None:
    allowed = {*sys.stdlib_module_names, "trio", "trioproxy.fanout"}
    package = Path(trioproxy.fanout.__file__).parent

    imported = {
        name
        for module in package.glob("*.py")
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        for name in _imported_by(node)
    }

    assert "trio" in imported
    assert {name for name in imported if not _is_within(name, allowed)} == set()


def _imported_by(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=str(module), level=0):
            return [module]
        case ast.ImportFrom():
            return ["a relative import"]
        case _:
            return []


def _is_within(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)
