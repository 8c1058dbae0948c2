"""A real llama.cpp to run against: its own HTTP server in a process, with a model made here."""

import json
import platform
import re
import select
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import httpx

from tests.e2e.polling import fetch, wait_equal

_SERVE = Path(__file__).with_name("serve_llama.py")
_STARTUP_SECONDS = 30.0
_SIGTERM_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class LlamaServer:
    """A running llama.cpp at `url`, the process `pid`; its model is called `tiny`."""

    url: str
    pid: int

    async def processing(self) -> int:
        """How many slots are generating now."""
        return sum(slot["is_processing"] for slot in await self._slots())

    async def wait_processing(self, slots: int, within: float = 2.0) -> None:
        """Wait until exactly `slots` slots are generating.

        Raises:
            AssertionError: they were not, within that many seconds.
        """
        await wait_equal(slots, self.processing, what="slots that are generating", within=within)

    async def wait_abandoned(self, within: float = 5.0) -> None:
        """Wait until no slot is generating, where the call that left had no token yet.

        The engine looks for the client of such a call when it has had nothing to tell to anyone for
        a second, so it is asked less often than that.

        Raises:
            AssertionError: a slot is still generating after that many seconds.
        """
        await wait_equal(
            0, self.processing, what="slots that are generating", within=within, every=1.3
        )

    async def wait_prefilling(self, within: float = 2.0) -> None:
        """Wait until one slot has read a part of its prompt, and has no token yet."""
        await wait_equal(1, self._prefilling, what="slots in their prefill", within=within)

    async def wait_deferred(self, requests: int, within: float = 2.0) -> None:
        """Wait until exactly so many requests are queued because every slot is busy."""

        async def measure() -> int:
            return await self.metric("requests_deferred")

        await wait_equal(requests, measure, what="requests in the queue", within=within)

    async def metric(self, name: str) -> int:
        """The metric `llamacpp:NAME` now, one that is a whole number."""
        metrics = (await fetch(self.url, "/metrics")).decode()
        value = re.search(rf"^llamacpp:{name} (\d+)$", metrics, re.MULTILINE)
        assert value is not None, f"no {name} in {metrics}"
        return int(value[1])

    async def _prefilling(self) -> int:
        return sum(
            slot["is_processing"]
            and slot["n_prompt_tokens_processed"] > 0
            and slot["next_token"][0]["n_decoded"] == 0
            for slot in await self._slots()
        )

    async def _slots(self) -> list[dict[str, Any]]:
        return json.loads(await fetch(self.url, "/slots"))


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
def open_llama(
    model: Path, *, slots: int = 4, ctx: int = 4096, when_full: Literal["shift", "stop"] = "shift"
) -> Generator[LlamaServer]:
    """Serve `model` on a free port during the block, with `ctx` tokens for all slots together.

    A slot whose context is full slides it on, or stops.

    The process is ended with the block (SIGTERM, then SIGKILL after 5 seconds), and ends by itself
    if this process dies first. Blocks while it starts and while it ends: meant for a fixture.

    Raises:
        RuntimeError: it did not start within 30 seconds; the message has its log.
    """
    command = [sys.executable, str(_SERVE), str(model), str(slots), str(ctx), when_full]
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
            yield LlamaServer(url, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(_SIGTERM_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
