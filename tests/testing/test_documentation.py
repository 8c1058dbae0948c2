"""The examples of the chapter on testing are run, and fail as it says."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trio
from trio.testing import MockClock

CHAPTER = Path(__file__).parents[2] / "docs" / "testing.md"

FENCE = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    """A program of the chapter; with ``output``, it has to fail, and these lines are told."""

    program: str
    output: tuple[str, ...]


def _examples() -> Iterator[Example]:
    text = CHAPTER.read_text()
    fences = list(FENCE.finditer(text))
    for fence, following in zip(fences, [*fences[1:], None], strict=True):
        if fence[1] == "python":
            is_told = following is not None and following[1] == "text"
            output = following[2].splitlines() if following is not None and is_told else []
            # Lines keep their numbers, so that tracebacks show the chapter's.
            lines_before = text[: fence.start(2)].count("\n")
            yield Example("\n" * lines_before + fence[2], tuple(output))


def _run(program: str) -> None:
    """Import it, and run its tests."""
    names: dict[str, object] = {"__name__": "chapter"}
    exec(compile(program, str(CHAPTER), "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        if inspect.iscoroutinefunction(test):
            trio.run(test, clock=MockClock(autojump_threshold=0))
        else:
            assert callable(test)
            test()


def _line_of(example: Example) -> str:
    return f"line {len(example.program) - len(example.program.lstrip()) + 1}"


@pytest.mark.parametrize("example", list(_examples()), ids=_line_of)
def test_an_example_does_what_the_chapter_says(example: Example) -> None:
    if not example.output:
        _run(example.program)
        return

    with pytest.raises((AssertionError, ExceptionGroup)) as raised:
        _run(example.program)

    told = "".join(traceback.format_exception(raised.value))
    _, *rest = told.split(example.output[0], 1)
    for line in example.output[1:]:
        assert rest, told
        _, *rest = rest[0].split(line.strip(), 1)
    assert rest, told


def test_the_chapter_has_examples_that_hold_and_some_that_fail() -> None:
    examples = list(_examples())

    assert {bool(example.output) for example in examples} == {True, False}
