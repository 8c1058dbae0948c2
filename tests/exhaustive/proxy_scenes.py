"""Scenes on the whole proxy, each short, for a blow to fall at every point of them.

Clients come in over HTTP, the upstream is called over HTTP, and all of it is one run in virtual
time: what happens at one second happens when all that could happen before has happened.
"""

from __future__ import annotations

import json
from functools import partial

import trio

from tests.exhaustive import proxy_scenes_engine as engine
from tests.exhaustive.proxy_scenes_clients import COMPLETIONS, MODELS_PATH, Answer
from tests.exhaustive.proxy_scenes_stage import Scene, play

LINGER = 5.0
PATIENT = {"X-Linger": str(LINGER)}
"""What a client says that may come back."""
SMALL_BUFFER = 256
"""Bytes that a client holds which does not read: less than a head or an event."""


async def _create(scene: Scene) -> list[str]:
    """Create a generation; where its events are, unless its client was struck."""
    body = {"path": COMPLETIONS, "body": {"prompt": "The river"}, "linger": LINGER}
    with scene.client() as client:
        await client.ask(target="/v1/generations", body=json.dumps(body).encode())
    heads = [answer.head for answer in client.answers if answer.head is not None]
    return [f"{head.headers['location']}/events" for head in heads if head.status == 201]


@play("1 left")
async def join_then_leave(scene: Scene) -> None:
    scene.engine.script = engine.tell_without_end
    await scene.read(enough=1)


@play("1 2 3 4 DONE", "1 2 3 4 DONE")
async def late_join(scene: Scene) -> None:
    scene.engine.script = engine.tell_in_three_pieces
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.read)
        await trio.sleep(1)
        nursery.start_soon(scene.read)


@play("1 2 left", "1 2 3 4 DONE", calls=2)
async def last_leave_against_join(scene: Scene) -> None:
    scene.engine.script = engine.tell_in_three_pieces
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(scene.read, enough=2))
        await trio.sleep(1)
        nursery.start_soon(scene.read)


@play("1 left", "1 2 3 4 DONE", calls=2, lingers=True)
async def linger_expiring_against_join(scene: Scene) -> None:
    scene.engine.script = engine.tell_without_end
    await scene.read(PATIENT, enough=1)
    await trio.sleep(LINGER)
    scene.engine.script = engine.tell_in_one_piece
    await scene.read()


@play("1 2 3 4 DONE | 1 2 3 4 cancelled DONE", "1 2 3 4 DONE | 1 2 3 4 cancelled DONE", "200")
async def stop_against_completion(scene: Scene) -> None:
    async def stop() -> None:
        await trio.sleep(1)
        ids = {answer.generation_id for answer in scene.answers if answer.generation_id}
        for generation_id in ids:
            with scene.client() as client:
                await client.ask("DELETE", f"/v1/generations/{generation_id}")

    scene.engine.script = engine.tell_the_end_in_pieces
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.read)
        nursery.start_soon(scene.read)
        nursery.start_soon(stop)


@play("502 upstream_unreachable", calls=0)
async def upstream_that_is_not_there(scene: Scene) -> None:
    scene.engine.stop_listening()
    await scene.read()


@play("500 refused_by_the_engine")
async def upstream_that_refuses(scene: Scene) -> None:
    scene.engine.script = engine.refuse
    await scene.read()


@play("502 upstream_broken")
async def upstream_that_leaves_before_the_head(scene: Scene) -> None:
    scene.engine.script = engine.leave
    await scene.read()


@play("upstream_broken DONE")
async def upstream_that_leaves_before_the_first_event(scene: Scene) -> None:
    scene.engine.script = engine.leave_after_the_head
    await scene.read()


@play("1 upstream_broken DONE", "1 upstream_broken DONE")
async def upstream_that_leaves_after_the_first_event(scene: Scene) -> None:
    scene.engine.script = engine.leave_after_the_first_event
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.read)
        nursery.start_soon(scene.read)


@play("1 error DONE")
async def upstream_that_tells_an_error(scene: Scene) -> None:
    scene.engine.script = engine.tell_an_error
    await scene.read()


@play("1 upstream_truncated DONE")
async def upstream_that_tells_too_little(scene: Scene) -> None:
    scene.engine.script = engine.tell_too_little
    await scene.read()


@play("1 2 3 4 DONE", commit_after=2.0, heartbeat=2.0)
async def upstream_that_is_silent(scene: Scene) -> None:
    scene.engine.script = engine.tell_after_a_silence
    await scene.read()


@play("1 2 3 4 DONE", codes="upstream_unreachable", upstream=engine.TLS_URL)
async def upstream_over_tls(scene: Scene) -> None:
    await scene.read()


async def _read_slowly(scene: Scene, *, pause: float) -> None:
    await scene.read(pause=pause, rcvbuf=SMALL_BUFFER)


@play("1 2 3 4 DONE", "1 2 3 4 DONE", write_timeout=8.0)
async def slow_reader_waits(scene: Scene) -> None:
    scene.engine.script = engine.tell_in_three_pieces
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(_read_slowly, scene, pause=3.5))
        await trio.sleep(0.5)
        nursery.start_soon(scene.read)


SINGLY = {"next_script": engine.tell_each_second}
"""For limits that only events which come one by one do not exceed."""


@play("1 2 overtaken DONE", max_transcript=900, **SINGLY)
async def slow_reader_is_overtaken(scene: Scene) -> None:
    scene.engine.script = engine.tell_each_second
    await _read_slowly(scene, pause=3.5)


@play("201", "1 2 gap(3-4) DONE", lingers=True, on_lag="skip", max_lag=300, **SINGLY)
async def slow_reader_skips(scene: Scene) -> None:
    scene.engine.script = engine.tell_each_second
    for url in await _create(scene):
        with scene.client(rcvbuf=SMALL_BUFFER) as client:
            await client.ask("GET", url, pause=3.5)


@play("1 2 evicted_slow DONE", on_lag="evict", max_lag=300, **SINGLY)
async def slow_reader_is_evicted(scene: Scene) -> None:
    scene.engine.script = engine.tell_each_second
    await _read_slowly(scene, pause=3.5)


@play("1 reset", "1 2 3 4 DONE")
async def stuck_reader(scene: Scene) -> None:
    scene.engine.script = engine.tell_in_three_pieces
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(_read_slowly, scene, pause=100))
        await trio.sleep(0.5)
        nursery.start_soon(scene.read)


def _resuming(answer: Answer) -> dict[str, str]:
    return {"Last-Event-ID": answer.last_event_id} if answer.last_event_id else {}


@play("1 left", "2 3 4 DONE", lingers=True, codes="cancelled")
async def resume(scene: Scene) -> None:
    scene.engine.script = engine.tell_in_three_pieces
    await scene.read(PATIENT, enough=1)
    await trio.sleep(LINGER / 2)
    await scene.read(_resuming(scene.answers[0]))


@play("1 left", "2 3 4 DONE", lingers=True, codes="cancelled")
async def resume_by_the_generations_url(scene: Scene) -> None:
    scene.engine.script = engine.tell_in_three_pieces
    await scene.read(PATIENT, enough=1)
    await trio.sleep(1)
    first = scene.answers[0]
    if first.generation_id is not None:
        with scene.client() as client:
            url = f"/v1/generations/{first.generation_id}/events"
            await client.ask("GET", url, headers=_resuming(first))


@play("201", "1 2 3 4 DONE", lingers=True)
async def create_and_read_later(scene: Scene) -> None:
    scene.engine.script = engine.tell_in_three_pieces
    for url in await _create(scene):
        await trio.sleep(1)
        with scene.client() as client:
            await client.ask("GET", url)


@play("200", "200")
async def whole_call(scene: Scene) -> None:
    async def ask() -> None:
        with scene.client() as client:
            await client.ask(headers={"X-Fanout": "replay"}, body=b'{"prompt": "The river"}')

    scene.engine.script = engine.answer_whole
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)


@play("1 2 3 4 DONE", "1 2 3 4 DONE", calls=2)
async def two_requests_on_one_connection(scene: Scene) -> None:
    with scene.client() as client:
        await client.ask()
        await client.ask()
        await client.wait_closed()


@play("1 2 3 4 DONE")
async def client_of_http_1_0(scene: Scene) -> None:
    """To which a body ends where the connection does."""
    scene.engine.script = engine.tell_in_three_pieces
    with scene.client(rcvbuf=SMALL_BUFFER) as client:
        await client.ask(version="1.0", pause=1.5)


@play("200")
async def forwarded_call(scene: Scene) -> None:
    scene.engine.script = engine.list_models
    with scene.client() as client:
        await client.ask("GET", MODELS_PATH)


@play("1 2 3 4 DONE", "200", "silence", "refused", drain=5.0)
async def shutdown_while_all_can_finish(scene: Scene) -> None:
    async def stay_idle() -> None:
        with scene.client() as client:
            await client.ask("GET", "/healthz")
            await trio.sleep(3)
            await client.ask("GET", "/healthz")

    scene.engine.script = engine.tell_in_three_pieces
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.read)
        nursery.start_soon(stay_idle)
        await trio.sleep(1)
        nursery.start_soon(scene.shut_down)
        await trio.sleep(1)
        nursery.start_soon(scene.read)


@play("1 reset", "1 2 shutting_down DONE", drain=1.0, write_timeout=30.0)
async def shutdown_that_some_cannot_await(scene: Scene) -> None:
    scene.engine.script = engine.tell_each_second
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(_read_slowly, scene, pause=100))
        await trio.sleep(0.5)
        nursery.start_soon(scene.read)
        await trio.sleep(0.5)
        nursery.start_soon(scene.shut_down)
