"""Ways to cut one run of bytes into chunks."""

from collections.abc import Iterable
from itertools import combinations_with_replacement, pairwise

from hypothesis import strategies as st


def cut(data: bytes, points: Iterable[int]) -> list[bytes]:
    """The data in chunks, cut at these offsets; equal offsets give empty chunks."""
    return [data[start:end] for start, end in pairwise([0, *sorted(points), len(data)])]


def every_cut_in_three(data: bytes) -> Iterable[list[bytes]]:
    for points in combinations_with_replacement(range(len(data) + 1), 2):
        yield cut(data, points)


def byte_by_byte(data: bytes) -> list[bytes]:
    return cut(data, range(1, len(data)))


def chunkings(data: bytes) -> st.SearchStrategy[list[bytes]]:
    points = st.lists(st.integers(0, len(data)), max_size=12)
    return st.just(byte_by_byte(data)) | points.map(lambda points: cut(data, points))
