"""The clients' process: ``python -m benchmarks.clients``, which the harness starts.

It prints where it listens, and does what each who connects there says first: an `Audience` or a
`Churn`. The garbage collector is off: what it keeps has no cycles to speak of.
"""

from __future__ import annotations

import gc
import socket

from benchmarks.audience import Audience, attend
from benchmarks.churn import Churn, act
from benchmarks.conversation import Conversation


def main() -> None:
    """Serve one harness after the other, until the process is ended."""
    gc.disable()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"clients on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        while True:
            connection, _ = listener.accept()
            harness = Conversation(connection)
            try:
                serve(harness)
            finally:
                harness.close()


def serve(harness: Conversation) -> None:
    """Do what the harness says first."""
    task = harness.hear(Audience, Churn)
    if isinstance(task, Audience):
        attend(task, harness)
    else:
        act(task, harness)


if __name__ == "__main__":
    main()
