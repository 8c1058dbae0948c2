"""What a node was elected for and has not begun: it is about to, or gives it back."""

from __future__ import annotations

from functools import partial

import trio

from trioproxy.cluster.broker import OWNER_LOST, Lease
from trioproxy.cluster.codec import Codec
from trioproxy.cluster.errands import Errands
from trioproxy.cluster.keys import Ref
from trioproxy.fanout import Outcome
from trioproxy.fanout.outcome import failed


class Unbegun:
    """Others may have heard of these before the node itself, and wait for them."""

    def __init__(self, errands: Errands, codec: Codec) -> None:
        self._errands = errands
        self._codec = codec
        self._awaited: dict[Ref, bool] = {}

    def expect(self, ref: Ref) -> None:
        """It is about to begin here, under this id, or to be given back."""
        self._awaited[ref] = False

    def take(self, ref: Ref) -> bool:
        """It is not to be expected any more. Returns whether somebody waits for it."""
        return self._awaited.pop(ref, False)

    def wake(self, ref: Ref) -> bool:
        """Somebody waits for it. Returns whether it is expected here."""
        is_expected = ref in self._awaited
        if is_expected:
            self._awaited[ref] = True
        return is_expected

    def give_back(self, lease: Lease, why: Exception | None) -> None:
        """Nothing was started under this lease, for that reason. Who has come to read it meanwhile
        is told the same."""
        self._errands.run(self._give_back, lease, why, name=f"giving back of {lease.ref.public_id}")

    def refuse(self, lease: Lease, outcome: Outcome) -> None:
        """Tell who waits for it that there is nothing, and how it ended."""
        name = f"refusal of {lease.ref.public_id}"
        self._errands.run(self._tell, lease, outcome, b"", name=name)

    async def _give_back(self, lease: Lease, why: Exception | None) -> None:
        broker = self._errands.broker
        outcome, detail = OWNER_LOST, b""  # who has left lets another begin it
        if why is not None:
            outcome, detail = failed("refused"), self._codec.pack_error(why)
        with trio.move_on_after(broker.terms.lease):  # by then it runs out by itself
            is_put_by = await self._errands.try_to(lambda: broker.retire(lease))
            if is_put_by is False:
                await self._tell(lease, outcome, detail)
        self.take(lease.ref)

    async def _tell(self, lease: Lease, outcome: Outcome, detail: bytes) -> None:
        finish = partial(self._errands.broker.finish, lease, outcome, last=0, detail=detail)
        await self._errands.try_to(finish)
