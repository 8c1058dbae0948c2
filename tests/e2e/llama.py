"""A real llama.cpp to run against: its own HTTP server in a process, with a model made here."""

import json
import platform
import select
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import httpx
import trio

from tests.support.rawhttp import open_client

_SERVE = Path(__file__).with_name("serve_llama.py")
_STARTUP_SECONDS = 30.0
_SIGTERM_SECONDS = 5.0
_POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class LlamaServer:
    """A running llama.cpp at `url`; its model is called `tiny`."""

    url: str

    async def processing(self) -> int:
        """How many slots are generating now. Opens and closes one connection."""
        async with open_client(self.url) as client:
            await client.request("GET", "/slots")
            await client.response_head()
            slots = json.loads(await client.body())
        return sum(slot["is_processing"] for slot in slots)

    async def wait_processing(self, slots: int, within: float = 2.0) -> None:
        """Wait until exactly `slots` slots are generating.

        Raises:
            AssertionError: they were not, within that many seconds.
        """
        busy = await self.processing()
        with trio.move_on_after(within):
            while busy != slots:
                await trio.sleep(_POLL_SECONDS)
                busy = await self.processing()
        assert slots == busy, f"{busy} slots are generating after {within} s, not {slots}"


def why_unavailable() -> str | None:
    """Why llama.cpp cannot run here, or None if it can."""
    # Looked up before the import, which would die of an illegal instruction.
    if platform.machine() == "x86_64" and "avx2" not in Path("/proc/cpuinfo").read_text().split():
        return "llama.cpp's wheel needs a CPU with AVX2"
    for module in ("xllamacpp", "gguf", "numpy"):
        try:
            import_module(module)
        except ImportError as error:
            return f"llama.cpp cannot run: {error}"
    return None


@contextmanager
def open_llama(model: Path, *, slots: int = 4, ctx: int = 4096) -> Generator[LlamaServer]:
    """Serve `model` on a free port during the block, with `ctx` tokens for all slots together.

    The process is ended with the block (SIGTERM, then SIGKILL after 5 seconds), and ends by itself
    if this process dies first. Blocks while it starts and while it ends: meant for a fixture.

    Raises:
        RuntimeError: it did not start within 30 seconds; the message has its log.
    """
    command = [sys.executable, str(_SERVE), str(model), str(slots), str(ctx)]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            process_group=0,  # a Ctrl-C at the terminal is for the tests; they end the engine
        ) as process,
    ):
        try:
            assert process.stdout is not None
            started, _, _ = select.select([process.stdout], [], [], _STARTUP_SECONDS)
            url = process.stdout.readline().decode().strip() if started else ""
            if not url:
                log.seek(0)
                raise RuntimeError(f"llama.cpp did not start:\n{log.read().decode()}")
            httpx.get(f"{url}/health", trust_env=False).raise_for_status()
            yield LlamaServer(url)
        finally:
            process.terminate()
            try:
                process.wait(_SIGTERM_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
