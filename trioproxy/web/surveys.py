"""What the nodes of a cluster ask each other about generations, and what the answers make of it.

A question names who wants to know, and a node answers with what that one may see. Its answer is
bounded, and tells what it leaves off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Literal, Protocol

import msgspec

from trioproxy.fanout import Generation, Hub
from trioproxy.telemetry import describe_timing, timing_of
from trioproxy.web.caller import Caller
from trioproxy.web.calls import response_id_of
from trioproxy.web.generations import describe
from trioproxy.web.places import ClusterDown, Overview

MOST_ROWS = 500
"""So many generations a node tells of in one answer; what runs comes first, then what is newest."""

Kind = Literal["list", "timing", "position", "response"]
"""All generations, or the one that is asked ``about``; how its tokens came; how far it has come;
which one is the answer that the engine calls so."""

Row = dict[str, Any]


class Ask(Protocol):
    async def __call__(
        self, question: bytes, *, of: str | None = None
    ) -> tuple[Mapping[str, bytes], Sequence[str] | None]: ...


class Question(msgspec.Struct, array_like=True, frozen=True):
    """What is asked, and in whose name."""

    kind: Kind
    tenant: str
    is_admin: bool
    about: str = ""

    def may_see(self, generation: Generation) -> bool:
        """Whether it is theirs who ask to see."""
        return self.is_admin or generation.tenant == self.tenant


class Position(msgspec.Struct, array_like=True, frozen=True):
    """How far a generation has come: the last seq, and one more where it has ended."""

    generation_id: str
    after: int


class Essentials(msgspec.Struct):
    """What of a row is made into an overview; what else there is in it is only handed on."""

    id: str
    subscribers: int
    outcome: dict[str, str | None] | None
    created_at: float
    tokens_per_second: float | None


class Told(msgspec.Struct, array_like=True, frozen=True):
    """A generation as a node has it: what is there of it, whether another node runs it, whether the
    call to the engine is open, and how many readers have joined."""

    row: Row
    is_replica: bool
    is_called: bool
    joined: int


class Listing(msgspec.Struct, array_like=True, frozen=True):
    """What a node tells of. ``has_more`` says that there is more than that."""

    told: Sequence[Told]
    has_more: bool


_encode = msgspec.msgpack.Encoder().encode
_decode_question = msgspec.msgpack.Decoder(Question).decode
_decode_listing = msgspec.msgpack.Decoder(Listing).decode
_decode_position = msgspec.msgpack.Decoder(Position | None).decode


def answer(hub: Hub, data: bytes) -> bytes:
    """Answer what another node asks of this one's hub. Raises :exc:`ValueError` for what is no
    question that this version knows."""
    question = _decode_question(data)
    visible = filter(question.may_see, [*hub.running, *reversed(list(hub.retained))])
    if question.kind == "list":
        return _encode(_list(visible, question.about))
    original = (generation for generation in visible if not generation.is_replica)
    if question.kind == "response":
        found = (one for one in original if response_id_of(one) == question.about)
        return _encode(_position(found))
    asked = (generation for generation in original if generation.id == question.about)
    if question.kind == "position":
        return _encode(_position(asked))
    return _timing(asked)


def _list(generations: Iterable[Generation], about: str) -> Listing:
    asked = (generation for generation in generations if about in ("", generation.id))
    told = [_tell(generation) for generation in islice(asked, MOST_ROWS)]
    return Listing(told, has_more=next(asked, None) is not None)


def _tell(generation: Generation) -> Told:
    timing = timing_of(generation)
    joined = timing.late_joins + (timing.joins > 0)
    is_called = timing.closed_at is None and not generation.is_replica
    return Told(describe(generation), generation.is_replica, is_called, joined)


def _position(generations: Iterable[Generation]) -> Position | None:
    generation = next(iter(generations), None)
    if generation is None:
        return None
    has_ended = generation.outcome is not None
    return Position(generation.id, generation.transcript.last + has_ended)


def _timing(generations: Iterable[Generation]) -> bytes:
    told = [describe_timing(timing_of(generation)) for generation in generations]
    return msgspec.json.encode(told[0]) if told else b""


def _read_listing(data: bytes) -> Listing:
    """Raises :exc:`msgspec.MsgspecError` where a row has not what is needed of it."""
    listing = _decode_listing(data)
    for one in listing.told:
        msgspec.convert(one.row, Essentials)
    return listing


def overview_of(answers: Mapping[str, bytes], missing: Sequence[str] | None) -> Overview:
    """What the nodes have answered, as one; those in ``missing`` have told nothing.

    A generation is told of once, by the node that runs it, or by one that reads it where that one
    has not answered; all its readers are counted.
    """
    listings: dict[str, Listing] = {}
    for node, data in answers.items():
        try:
            listings[node] = _read_listing(data)
        except msgspec.MsgspecError:  # it is of another version
            missing = None if missing is None else [*missing, node]
    everything = [(node, one) for node, listing in listings.items() for one in listing.told]
    rows: dict[str, Row] = {}
    joined: Counter[str] = Counter()
    for node, one in sorted(everything, key=lambda told: told[1].is_replica):  # the originals first
        generation_id, subscribers = one.row["id"], one.row["subscribers"]
        row = rows.setdefault(generation_id, one.row | {"subscribers": 0, "node": node})
        row["subscribers"] += subscribers
        joined[generation_id] += one.joined
    running = [row for row in rows.values() if row["outcome"] is None]
    totals = {
        "running": len(running),
        "subscribers": sum(row["subscribers"] for row in rows.values()),
        "tokens_per_second": sum(row["tokens_per_second"] or 0.0 for row in running),
        "upstream_calls": sum(one.is_called for _, one in everything),
        "saved_calls": sum(number - 1 for number in joined.values() if number),
        "missing": missing,
    }
    truncated = [node for node, listing in listings.items() if listing.has_more]
    in_order = sorted(
        rows.values(), key=lambda row: (row["outcome"] is not None, row["created_at"])
    )
    return Overview(in_order, totals, list(listings), missing, truncated)


class Neighbours:
    """The other nodes, as this one asks them: ``ask`` puts a question to all of them or to one, and
    tells their answers and who has given none."""

    def __init__(self, name: str, hub: Hub, ask: Ask) -> None:
        self._name = name
        self._hub = hub
        self._ask = ask

    async def survey(self, caller: Caller, generation_id: str = "") -> Overview:
        """What all have of a caller's generations or of one, this node too."""
        question = _question("list", caller, generation_id)
        here = {self._name: answer(self._hub, question)}
        answers, missing = await self._ask(question)
        return overview_of({**here, **answers}, missing)

    async def tell_timing(self, caller: Caller, generation_id: str, node: str) -> bytes | None:
        """The timing of a generation that this node runs, as JSON; None if it does not tell."""
        answers, _ = await self._ask(_question("timing", caller, generation_id), of=node)
        return answers.get(node) or None

    async def find_end(self, caller: Caller, generation_id: str, node: str) -> int | None:
        """How far a generation has come that this node runs; None if it does not tell."""
        answers, _ = await self._ask(_question("position", caller, generation_id), of=node)
        found = _first_position(answers)
        return None if found is None else found.after

    async def find_response(self, caller: Caller, response_id: str) -> Position | None:
        """How far the response has come that the engine calls so; None if nobody has it. Raises
        :class:`ClusterDown`."""
        answers, missing = await self._ask(_question("response", caller, response_id))
        if missing is None:
            raise ClusterDown
        return _first_position(answers)


def _question(kind: Kind, caller: Caller, about: str = "") -> bytes:
    return _encode(Question(kind, caller.tenant, caller.is_admin, about))


def _first_position(answers: Mapping[str, bytes]) -> Position | None:
    for data in answers.values():
        with suppress(msgspec.MsgspecError):  # it is of another version
            if (position := _decode_position(data)) is not None:
                return position
    return None
