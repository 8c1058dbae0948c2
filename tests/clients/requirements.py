"""What a machine must have for some of these tests."""

import os
from typing import NoReturn

import pytest


def lack(reason: str) -> NoReturn:
    """Skip the test, for a reason that names what is missing. In CI nothing may be missing."""
    if "CI" in os.environ:
        pytest.fail(reason)
    pytest.skip(reason)
