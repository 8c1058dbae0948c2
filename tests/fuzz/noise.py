"""What is sound, with something wrong somewhere: more of a reader is reached so than by noise."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

Change = tuple[int, int, bytes]
"""From where, how many bytes, and what comes in their place."""


def spoiled(sound: Sequence[bytes], tokens: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """One of ``sound`` with a few changes, of which many put in a token; or two such in a row; or
    tokens alone; or noise."""
    anything = st.sampled_from(tokens) | st.binary(max_size=4)
    changes = st.lists(
        st.tuples(st.integers(0, 2_000), st.sampled_from([0, 0, 1, 2, 7, 100]), anything),
        max_size=6,
    )
    one = st.builds(_change, st.sampled_from(sound), changes)
    tokens_alone = st.lists(st.sampled_from(tokens), max_size=20).map(b"".join)
    return one | st.builds(bytes.__add__, one, one) | tokens_alone | st.binary(max_size=60)


def _change(data: bytes, changes: list[Change]) -> bytes:
    for at, count, put in changes:
        start = at % (len(data) + 1)
        data = data[:start] + put + data[start + count :]
    return data
