"""A reader that loses its connection again and again, and comes back each time."""

from random import Random

from tests.e2e.commands import Proxy
from tests.e2e.llama import LlamaServer
from tests.e2e.streams import COMPLETION, COMPLETIONS, chunks_of, next_event, read_events, text_of
from tests.support.rawhttp import RawClient, open_client, post_stream
from tests.support.sse import SseEvent

TOKENS = 300
ANSWER = COMPLETION | {"max_tokens": TOKENS, "seed": 4}


async def test_reader_cut_twenty_times_loses_nothing_and_reads_nothing_twice(
    slow_proxy: Proxy, slow_llama: LlamaServer
) -> None:
    random = Random(20)
    predicted = await slow_llama.metric("tokens_predicted_total")
    headers = {"x-linger": "5"}
    read: list[SseEvent] = []
    for cut in sorted(random.sample(range(1, TOKENS), 20)):
        async with post_stream(slow_proxy.url, COMPLETIONS, ANSWER, headers) as client:
            read += [await next_event(client) for _ in range(cut - len(read))]
            leave = random.choice([RawClient.close, RawClient.reset, RawClient.half_close])
            leave(client)
        headers["last-event-id"] = read[-1].id or ""
    async with post_stream(slow_proxy.url, COMPLETIONS, ANSWER, headers) as client:
        generation_id = client.head.headers["x-generation-id"]
        read += await read_events(client)

    async with open_client(slow_proxy.url) as client:
        await client.request("GET", f"/v1/generations/{generation_id}/events")
        await client.response_head()
        uncut = await read_events(client)

    assert [f"{generation_id}:{seq}" for seq in range(1, len(read) + 1)] == [
        event.id for event in read
    ]
    assert uncut == read
    assert sum(text_of([chunk]) != "" for chunk in chunks_of(read)) == TOKENS
    assert await slow_llama.metric("tokens_predicted_total") - predicted == TOKENS
