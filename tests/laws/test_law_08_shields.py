"""Law 8: one module of the project shields anything from cancellation, and every shield in it gives
up at a deadline."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

import trioproxy
from trioproxy.fanout import grace

PACKAGE = Path(trioproxy.__file__).parent
HOME = PACKAGE / "fanout" / "cleanup.py"


def shields(code: str) -> Iterator[ast.Call | ast.stmt]:
    """Every call that is given a ``shield`` and every assignment to an attribute of that name, but
    the taking away of one."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Call(keywords=keywords) if any(word.arg == "shield" for word in keywords):
                yield node
            case ast.Assign(value=ast.Constant(value=False)):
                pass
            case ast.Assign(targets=targets) if any(map(_is_shield, targets)):
                yield node
            case ast.AnnAssign(target=target) | ast.AugAssign(target=target) if _is_shield(target):
                yield node
            case _:
                pass


def _is_shield(target: ast.expr) -> bool:
    return any(
        isinstance(node, ast.Attribute) and node.attr == "shield" for node in ast.walk(target)
    )


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("with trio.CancelScope(shield=True): pass", 1),
        ("with trio.move_on_after(5, shield=True): pass", 1),
        ("scope = CancelScope(shield=is_urgent)", 1),
        ("nursery.cancel_scope.shield = True", 1),
        ("nursery.cancel_scope.shield = False", 0),
        ("a.shield, b = True, False", 1),
        ("scope.shield |= True", 1),
        ("with trio.CancelScope(deadline=5): pass", 0),
        ("shield = scope.shield", 0),
        ("with grace(5): pass", 0),
    ],
)
def test_a_shield_is_recognised(code: str, expected: int) -> None:
    assert expected == len(list(shields(code)))


def test_nothing_outside_its_home_is_shielded() -> None:
    shielded = {
        f"{module.relative_to(PACKAGE)}:{node.lineno}"
        for module in PACKAGE.rglob("*.py")
        if module != HOME
        for node in shields(module.read_text(encoding="utf-8"))
    }

    assert shielded == set()


def test_every_shield_at_home_has_a_deadline() -> None:
    at_home = list(shields(HOME.read_text(encoding="utf-8")))

    assert at_home
    for node in at_home:
        assert isinstance(node, ast.Call)
        assert "deadline" in {keyword.arg for keyword in node.keywords}


async def test_grace_holds_a_cancellation_off_while_its_time_lasts(
    autojump_clock: MockClock,
) -> None:
    with trio.CancelScope() as outside:
        outside.cancel()
        with grace(5) as scope:
            await trio.sleep(4)
        assert not scope.cancelled_caught
        assert trio.current_time() == 4
        await trio.lowlevel.checkpoint()
        pytest.fail("the cancellation that waited was not delivered")

    assert outside.cancelled_caught


async def test_grace_gives_up_at_its_deadline(autojump_clock: MockClock) -> None:
    with grace(5) as scope:
        await trio.sleep_forever()

    assert scope.cancelled_caught
    assert trio.current_time() == 5
