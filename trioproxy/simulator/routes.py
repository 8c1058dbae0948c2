"""What the engine answers on each route."""

from collections.abc import Callable, Mapping

import msgspec
import trio

from trioproxy.simulator.apis import APIS, ollama, openai
from trioproxy.simulator.connection import Connection, HTTPRequest
from trioproxy.simulator.engine import Call, Outcome, SimulatedEngine
from trioproxy.simulator.generation import Generation
from trioproxy.simulator.refusal import Refusal
from trioproxy.simulator.request import last_text, parse_generation
from trioproxy.simulator.ticker import Ticker

_FACTS: Mapping[str, Callable[[SimulatedEngine], object]] = {
    "/v1/models": lambda engine: openai.list_models(engine.settings.model),
    "/api/tags": lambda engine: ollama.list_tags(engine.settings.model),
    "/api/version": lambda engine: ollama.tell_version(),
    "/health": lambda engine: {"status": "ok"},
    "/stats": lambda engine: engine.stats,
    "/calls": lambda engine: [_record_of(call) for call in engine.calls],
}

_METHODS = {
    **dict.fromkeys(APIS, ("POST",)),
    **dict.fromkeys(_FACTS, ("GET",)),
    "/calls": ("GET", "DELETE"),
}


async def answer(
    request: HTTPRequest, connection: Connection, engine: SimulatedEngine, ticker: Ticker
) -> None:
    """Answer one request on its connection.

    Raises `Refusal`, before anything is written, for what is to be answered with an error status,
    and `trio.BrokenResourceError` when the client of a short answer has left; a generation call's
    client may leave as it likes. If it is cancelled, a part of the answer may have been sent.
    """
    methods = _METHODS.get(request.path)
    if methods is None:
        raise Refusal(404, f"no such path: {request.path}", code="unknown_url")
    if request.method not in methods:
        allowed = ", ".join(methods)
        raise Refusal(405, f"{request.path} takes {allowed} only", headers={"allow": allowed})
    if request.method == "POST":
        await _answer_call(request, connection, engine, ticker)
    elif request.method == "DELETE":
        forgotten = engine.forget_ended()
        await connection.respond(200, msgspec.json.encode({"forgotten": forgotten}))
    else:
        await connection.respond(200, msgspec.json.encode(_FACTS[request.path](engine)))


async def _answer_call(
    request: HTTPRequest, connection: Connection, engine: SimulatedEngine, ticker: Ticker
) -> None:
    call = Call(
        method=request.method,
        path=request.path,
        query=request.query,
        headers=request.headers,
        body=request.body,
        started=trio.current_time(),
    )
    engine.begin(call)
    api, settings = APIS[request.path], engine.settings
    try:
        wanted = parse_generation(api, request.headers, request.body, settings)
        generation = Generation(api, wanted, connection, ticker, settings.keepalive)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_abort_on_departure, connection, engine, call, nursery.cancel_scope)
            try:
                engine.end(call, await generation.run())
            except trio.BrokenResourceError:
                engine.end(call, Outcome.ABORTED)
            nursery.cancel_scope.cancel()
    except Refusal:
        engine.end(call, Outcome.REFUSED)
        raise
    finally:
        engine.end(call, Outcome.CANCELLED)


async def _abort_on_departure(
    connection: Connection, engine: SimulatedEngine, call: Call, answering: trio.CancelScope
) -> None:
    await connection.wait_departure()
    engine.end(call, Outcome.ABORTED)
    answering.cancel()


def _record_of(call: Call) -> dict[str, object]:
    return {
        "prompt": last_text(APIS[call.path], call.body),
        "outcome": call.outcome,
        "began_unix_ns": call.began_unix_ns,
        "ended_unix_ns": call.ended_unix_ns,
    }
