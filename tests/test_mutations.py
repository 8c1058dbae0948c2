"""The catalogue of mutations is kept up with the code."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import trioproxy
from tests.mutations.__main__ import mutate
from tests.mutations.catalogue import MUTATIONS, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_each_mutation_still_finds_its_place_and_leaves_python(
    mutation: Mutation, tmp_path: Path
) -> None:
    copy = tmp_path / mutation.path
    copy.parent.mkdir(parents=True)
    shutil.copy(Path(trioproxy.__file__).parent / mutation.path, copy)

    mutate(mutation, tmp_path)

    if copy.suffix == ".py":  # the broker's scripts are in Lua
        compile(copy.read_text(), str(copy), "exec")
