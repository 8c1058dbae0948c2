"""What a read of streams brings, as letters and as parts of logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast, get_args

from trioproxy.cluster.broker import Letter, News, Word
from trioproxy.cluster.entries import Cursor, Entry, Part, follow
from trioproxy.cluster.keys import Ref

Fields = Sequence[bytes]

Streams = Mapping[bytes, Sequence[tuple[bytes, Fields]]]
"""By their keys: ids of entries, and the names and values of their fields."""


def news_of(
    streams: Streams,
    mailbox: str,
    mail: str,
    names: Mapping[str, Ref],
    places: Mapping[Ref, Cursor],
) -> News:
    """What is new to who stands at these places, of the mailbox and of logs by their keys."""
    letters: list[Letter] = []
    logs: dict[Ref, tuple[Cursor, Sequence[Part]]] = {}
    for key, entries in streams.items():
        name = key.decode()
        if name == mailbox:
            mail = entries[-1][0].decode()
            letters = [letter for _, fields in entries for letter in _letters(_pairs(fields))]
        else:
            ref = names[name]
            logs[ref] = follow(places[ref], [_entry(*entry) for entry in entries])
    return News(letters, mail, logs)


def _entry(entry_id: bytes, fields: Fields) -> Entry:
    fence, seq = entry_id.split(b"-")
    return Entry(int(fence), int(seq), _pairs(fields))


def _pairs(fields: Fields) -> dict[bytes, bytes]:
    return dict(zip(fields[::2], fields[1::2], strict=True))


def _letters(fields: dict[bytes, bytes]) -> list[Letter]:
    """The letter; none if it is empty, or says what a later version may."""
    word = fields.get(b"w", b"").decode()
    if word not in get_args(Word):
        return []
    ref = Ref(fields[b"r"].decode(), fields[b"g"].decode())
    return [Letter(cast(Word, word), ref, fields[b"s"].decode())]
