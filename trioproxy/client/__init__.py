"""A client of the proxy, on Trio: it streams a generation, and resumes by itself.

    async with open_client("http://127.0.0.1:9010", api_key="…") as client:
        async with client.stream("/v1/chat/completions", {"model": "m", "messages": […]}) as stream:
            async for event in stream:
                print(event.text, end="")

However often the connection breaks, each event comes once and in order, or it is said which did
not. The generation lingers on the proxy meanwhile (``linger=``, 30 seconds), and the stream takes
it up where it was cut: after a moment at first, then with growing delays, at most ``max_attempts``
times without a new event.

* **It ends** where the generation is complete. One that failed raises :class:`GenerationFailed`
  after the last event that it had. What the proxy no longer holds raises :class:`Gap`; iterate
  again, and the stream goes on behind it. :class:`StreamBroken` says that the proxy could not be
  had; iterate again for as many attempts more.
* **Cancellation** (``trio.move_on_after`` around the loop) closes the connection and loses nothing:
  iterate the same stream again to go on.
* **Leaving** ``async with client.stream(…)`` closes the connection at once, and the generation ends
  with its linger. ``await stream.cancel()`` stops it now, for everyone; any task may call it.
* A plain ``async for event in client.stream(…)`` works as well. Whoever breaks out of that leaves
  the connection open, with nobody who could close it but the client's own block, which does.
* ``client.read(generation_id, after=seq)`` reads a generation that somebody else has started, or
  oneself in another life: both are attributes of the stream and of its events.

Every path on which the proxy serves generations can be asked, in its own API's words.
``event.text`` is the text that an event carries in any of them, ``event.data`` and ``event.json()``
all of it.
"""

from trioproxy.client.calls import Mode
from trioproxy.client.client import Client, open_client
from trioproxy.client.errors import (
    AttemptFailed,
    ClientError,
    Gap,
    GenerationFailed,
    GenerationGone,
    ProxyUnreachable,
    Refused,
    StreamBroken,
    UnexpectedAnswer,
)
from trioproxy.client.events import Event
from trioproxy.client.stream import GenerationStream

__all__ = [
    "AttemptFailed",
    "Client",
    "ClientError",
    "Event",
    "Gap",
    "GenerationFailed",
    "GenerationGone",
    "GenerationStream",
    "Mode",
    "ProxyUnreachable",
    "Refused",
    "StreamBroken",
    "UnexpectedAnswer",
    "open_client",
]
