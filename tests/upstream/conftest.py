import gc
from collections.abc import Generator

import pytest


@pytest.fixture
def without_garbage_collection() -> Generator[None]:
    """What only the collector frees has leaked."""
    gc.disable()
    yield
    gc.enable()
