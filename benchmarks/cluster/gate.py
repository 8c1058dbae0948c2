"""A gate before a server: what passes through it can be held back, or cut.

It has a thread of its own, so that it serves programs that wait and those that do not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial

import trio

CHUNK = 1 << 16
ANSWERS_WITHIN = 10.0


class Gate:
    """Passes what comes to ``port`` on to a server of this machine, and back.

    A gate that is *held* is a network that loses everything: connections stay, new ones are
    accepted, and nothing comes through. What was held back goes on its way when it is opened, as
    TCP would send it again. ``connections`` is how many there are.
    """

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self.connections = 0
        self._server_port = server_port
        self._is_held = False
        self._opened = trio.lowlevel.ParkingLot()
        self._scopes: set[trio.CancelScope] = set()
        self._running = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken | None = None
        self._is_listening = threading.Event()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def hold(self) -> None:
        """Let nothing through from now on."""
        self._do(self._hold)

    def open(self) -> None:
        """Let everything through again."""
        self._do(self._open)

    def cut(self) -> None:
        """End all connections that there are; others are let in."""
        self._do(self._cut)

    def _do(self, what: Callable[[], object]) -> None:
        """Have it done in the gate's own thread. What asks is not kept waiting for longer than that
        thread needs for a step."""
        assert self._token is not None
        is_done = threading.Event()
        self._token.run_sync_soon(lambda: (what(), is_done.set()))
        if not is_done.wait(ANSWERS_WITHIN):
            raise TimeoutError("the gate does not answer")

    def _hold(self) -> None:
        self._is_held = True

    def _open(self) -> None:
        self._is_held = False
        self._opened.unpark_all()

    def _cut(self) -> None:
        for scope in self._scopes:
            scope.cancel(reason="the gate was cut")

    def end(self) -> None:
        """End all connections, and let no others in: it is over."""
        self._do(partial(self._running.cancel, reason="the gate is closed"))

    async def serve(self) -> None:
        """Let them through, until it ends."""
        with self._running:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            self.port = listener.socket.getsockname()[1]
            self._token = trio.lowlevel.current_trio_token()
            self._is_listening.set()
            await trio.serve_listeners(self._carry, [listener])

    def wait_listening(self) -> None:
        """Wait until it listens. Raises :exc:`TimeoutError`."""
        if not self._is_listening.wait(ANSWERS_WITHIN):
            raise TimeoutError("the gate does not listen")

    async def _carry(self, client: trio.SocketStream) -> None:
        """One connection, to its end."""
        self.connections += 1
        try:
            with trio.CancelScope() as scope, suppress(OSError):
                self._scopes.add(scope)
                await self._wait_open()
                server = await trio.open_tcp_stream("127.0.0.1", self._server_port)
                async with client, server, trio.open_nursery() as nursery:
                    nursery.start_soon(self._pass_on, client, server, nursery.cancel_scope)
                    nursery.start_soon(self._pass_on, server, client, nursery.cancel_scope)
        finally:
            self._scopes.discard(scope)
            self.connections -= 1
            await trio.aclose_forcefully(client)

    async def _pass_on(
        self, source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope
    ) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(CHUNK):
                await self._wait_open()
                await sink.send_all(data)
        await self._wait_open()  # that it is over is told as late as the rest
        both.cancel(reason="one side has left")

    async def _wait_open(self) -> None:
        while self._is_held:
            await self._opened.park()


@contextmanager
def open_gate(server_port: int) -> Generator[Gate]:
    """A gate before the server of that port, open, for the length of the block."""
    gate = Gate(server_port)
    thread = threading.Thread(target=trio.run, args=(gate.serve,), name="gate", daemon=True)
    thread.start()
    gate.wait_listening()
    try:
        yield gate
    finally:
        gate.end()
        thread.join()
