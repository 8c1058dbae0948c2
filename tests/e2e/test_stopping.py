"""Stopping a generation, which is not the same as leaving it."""

from tests.e2e.commands import Proxy
from tests.e2e.llama import LlamaServer
from tests.e2e.streams import (
    COMPLETION,
    COMPLETIONS,
    DONE,
    REPLAY,
    error_of,
    next_event,
    read_events,
)
from tests.support.rawhttp import open_client, post_stream


async def test_stopping_a_generation_ends_it_for_everyone_and_frees_the_slot(
    slow_proxy: Proxy, slow_llama: LlamaServer
) -> None:
    async with (
        post_stream(slow_proxy.url, COMPLETIONS, COMPLETION, REPLAY) as one,
        post_stream(slow_proxy.url, COMPLETIONS, COMPLETION, REPLAY) as other,
        open_client(slow_proxy.url) as stopper,
    ):
        generation_id = one.head.headers["x-generation-id"]
        readers = (one, other)
        for reader in readers:
            await next_event(reader)
        await slow_llama.wait_processing(1)

        await stopper.request("DELETE", f"/v1/generations/{generation_id}")
        stopped = await stopper.response_head()

        ends = [(await read_events(reader))[-2:] for reader in readers]
        await slow_llama.wait_processing(0)

    assert stopped.status == 200
    assert [(error_of(error.data), last.data) for error, last in ends] == [("cancelled", DONE)] * 2
    generation = await slow_proxy.generation(generation_id)
    assert generation["outcome"] == {"kind": "cancelled", "reason": "stopped"}
