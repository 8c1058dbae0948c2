"""The only place of the project where a task is shielded from cancellation.

Cancelled code may still owe the world something: a connection to tidy up, a last word to a peer. A
shield lets it pay, but a shield without a deadline is how a server hangs on one dead client. So
there is one shield here, and it has a deadline. Closing must not depend on it: whatever is released
inside has a synchronous way to be released (a socket is closed, a registry entry deleted) that was
taken before, or is taken when this gives up.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import trio


@contextmanager
def grace(seconds: float) -> Generator[trio.CancelScope]:
    """Shield the block from outside cancellation for at most ``seconds``; then cancel it and go on
    after it.

    The scope tells whether the time was enough (``cancelled_caught``). A cancellation that came
    meanwhile is delivered at the first checkpoint after the block.
    """
    with trio.CancelScope(deadline=trio.current_time() + seconds, shield=True) as scope:
        yield scope
