"""SIGTERM, while streams are live."""

from tests.e2e.commands import open_proxy
from tests.e2e.llama import LlamaServer
from tests.e2e.readers import open_stuck_reader
from tests.e2e.streams import (
    COMPLETION,
    COMPLETIONS,
    DONE,
    REPLAY,
    ask,
    chunks_of,
    error_of,
    next_event,
    read_events,
)
from tests.support.rawhttp import post_stream

FAREWELL = 1.0  # seconds that clients get to take the message that it is over


async def test_live_streams_finish_within_the_drain(slow_llama: LlamaServer) -> None:
    answer = COMPLETION | {"max_tokens": 100}
    with open_proxy(slow_llama.url, "--drain", "60") as proxy:
        async with (
            post_stream(proxy.url, COMPLETIONS, answer, REPLAY) as one,
            post_stream(proxy.url, COMPLETIONS, answer, REPLAY) as other,
            ask(proxy.url, answer | {"stream": False}) as whole,
        ):
            readers = (one, other)
            for reader in readers:
                await next_event(reader)
            await slow_llama.wait_processing(2)

            proxy.process.terminate()

            rests = [chunks_of(await read_events(reader)) for reader in readers]
            answered = await whole.response_head()
            await whole.body()
        code = await proxy.wait_exit(within=5)
    await slow_llama.wait_processing(0)

    assert [rest[-1]["choices"][0]["finish_reason"] for rest in rests] == ["length"] * 2
    assert (answered.status, whole.ended_properly) == (200, True)
    assert code == 0


async def test_streams_that_outlast_the_drain_are_told_and_ended(slow_llama: LlamaServer) -> None:
    drain = 0.5
    with open_proxy(slow_llama.url, "--drain", str(drain)) as proxy:
        async with (
            post_stream(proxy.url, COMPLETIONS, COMPLETION, REPLAY) as one,
            post_stream(proxy.url, COMPLETIONS, COMPLETION, REPLAY) as other,
            ask(proxy.url, COMPLETION | {"stream": False}) as whole,
            open_stuck_reader(proxy),
        ):
            readers = (one, other)
            for reader in readers:
                await next_event(reader)
            await slow_llama.wait_processing(3)

            proxy.process.terminate()
            code = await proxy.wait_exit(within=drain + FAREWELL + 2)

            ends = [(await read_events(reader))[-2:] for reader in readers]
            answered = await whole.response_head()
        await slow_llama.wait_processing(0)

    assert [(error_of(error.data), last.data) for error, last in ends] == [
        ("shutting_down", DONE)
    ] * 2
    assert answered.status == 503
    assert code == 0
