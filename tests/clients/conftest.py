"""The programs whose clients talk to the proxy: Node with packages from npm, Chromium, curl."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

import pytest

from tests.clients.browser import Browser
from tests.clients.nodejs import Node, install, why_unavailable
from tests.clients.requirements import lack


@pytest.fixture(scope="session")
def node(pytestconfig: pytest.Config) -> Node:
    """Node, and the packages of `package-lock.json`, which are kept in pytest's cache."""
    if reason := why_unavailable():
        lack(reason)
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("trioproxy-node")
    if reason := install(folder):
        lack(reason)
    return Node(folder)


@pytest.fixture(scope="session")
def browser() -> Browser:
    """Debian's Chromium, driven by Playwright."""
    program = shutil.which("chromium")
    if program is None:
        lack("chromium is not installed")
    if find_spec("playwright") is None:
        lack("the Python package playwright is not installed")
    return Browser(program)


@pytest.fixture(scope="session")
def curl() -> str:
    """The path of curl."""
    program = shutil.which("curl")
    if program is None:
        lack("curl is not installed")
    return program
