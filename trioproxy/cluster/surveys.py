"""What a node asks the others at once, and what it answers them.

There is no list of what runs in the cluster: who wants to know asks, and as long as nobody does it
costs nothing. A question goes to all nodes that live as a letter; each puts its answer beside the
question and tells who asked, who waits for a bounded time. Both are opaque here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import trio

from trioproxy.cluster.broker import Broker, Letter
from trioproxy.cluster.errors import BrokerError
from trioproxy.cluster.keys import Ref
from trioproxy.fanout import Hub

logger = logging.getLogger(__name__)

ANSWERED_WITHIN = 0.5
"""Seconds that the others have to answer."""

SURVEY = "survey"
"""What stands for a request in the names of surveys."""

Answer = Callable[[bytes], bytes]
"""Answers a question, without waiting. Raises :exc:`ValueError` for one that it does not
understand, which is not answered."""


class Heard(NamedTuple):
    """The answers by node, and the nodes that ought to have answered and did not; None where the
    broker is away, and nobody knows who is there."""

    answers: Mapping[str, bytes]
    missing: Sequence[str] | None


class Surveys:
    """Those of one node. Its answers are tasks of ``nursery``."""

    def __init__(self, broker: Broker, answer: Answer, nursery: trio.Nursery) -> None:
        self._broker = broker
        self._answer = answer
        self._nursery = nursery
        self._open: dict[Ref, _Open] = {}

    async def ask(self, question: bytes, *, of: str | None = None) -> Heard:
        """Ask all other nodes, or one; wait until they have answered, or for
        :data:`ANSWERED_WITHIN` seconds. If cancelled, their answers are forgotten by the broker."""
        survey, answered = Ref.new(SURVEY), _Open()
        self._open[survey] = answered
        try:
            asked = await self._broker.ask(survey, question, of=of)
            with trio.move_on_after(ANSWERED_WITHIN):
                await answered.wait_for(asked)
            answers = await self._broker.answers(survey)
        except BrokerError as error:
            logger.info("the other nodes are not asked: %s", error)
            return Heard({}, None)
        finally:
            del self._open[survey]
        return Heard(answers, sorted(set(asked) - answers.keys()))

    def hear(self, letter: Letter) -> None:
        """Answer a question, or note that one has been answered."""
        if letter.word == "ask":
            self._nursery.start_soon(self._reply, letter, name="answer to the cluster")
        elif letter.ref in self._open:
            self._open[letter.ref].note(letter.sender)

    async def _reply(self, letter: Letter) -> None:
        try:
            question = await self._broker.question(letter.ref)
            answer = None if question is None else self._answered(question, letter.sender)
            if answer is not None:
                await self._broker.answer(letter.ref, answer, to=letter.sender)
        except BrokerError as error:
            logger.debug("%s is not answered: %s", letter.sender, error)

    def _answered(self, question: bytes, sender: str) -> bytes | None:
        try:
            return self._answer(question)
        except ValueError as error:  # of a node of another version
            logger.warning("%s asks what is not understood: %s", sender, error)
        except Exception:  # a fault of ours costs this answer, not the node
            logger.exception("%s is not answered", sender)
        return None


class _Open:
    """A survey that is waited for."""

    def __init__(self) -> None:
        self._nodes: set[str] = set()
        self._noted = trio.lowlevel.ParkingLot()

    def note(self, node: str) -> None:
        self._nodes.add(node)
        self._noted.unpark_all()

    async def wait_for(self, nodes: Sequence[str]) -> None:
        while not self._nodes.issuperset(nodes):
            await self._noted.park()


def answer_nothing(hub: Hub, question: bytes) -> bytes:
    """The answer of a node that has nothing to tell."""
    return b""
