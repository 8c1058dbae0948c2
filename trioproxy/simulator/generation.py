"""One generation: tokens against the clock, or the failure that was asked for."""

import math
from itertools import islice

import msgspec
import trio

from trioproxy.simulator.apis.protocol import Api, GenerationRequest
from trioproxy.simulator.connection import Connection
from trioproxy.simulator.engine import Outcome
from trioproxy.simulator.pace import Pace
from trioproxy.simulator.refusal import Failure
from trioproxy.simulator.ticker import Ticker

_MAX_TOKENS_PER_WRITE = 64
_FAILURE = Failure(500, "a failure that the request asked for")


class Generation:
    """The answer to one request to an API, on its connection. Its clock starts when it is made.

    `keepalive` is as in `EngineSettings`.
    """

    def __init__(
        self,
        api: Api,
        request: GenerationRequest,
        connection: Connection,
        ticker: Ticker,
        keepalive: float,
    ) -> None:
        now = trio.current_time()
        self._api = api
        self._request = request
        self._connection = connection
        self._ticker = ticker
        self._keepalive = keepalive if keepalive and api.framing.comment else math.inf
        self._reply = api.reply(request)
        self._pace = Pace(now + request.ttft, request.rate)
        self._written = now
        # A broken answer has half of its tokens, and breaks when the next one is due.
        self._tokens = request.tokens if request.fail is None else request.tokens // 2

    async def run(self) -> Outcome:
        """Answer; return how that ended, without a checkpoint after the last byte.

        Raises `trio.BrokenResourceError` when the client has left. A stalled answer goes on until
        it is cancelled. If it is cancelled, a part of the answer may have been sent.
        """
        if self._request.stream:
            return await self._stream()
        return await self._answer()

    async def _stream(self) -> Outcome:
        connection, fail = self._connection, self._request.fail
        close = {"connection": "close"} if fail == "mid" else {}
        await connection.start({**self._api.framing.headers, **close})
        await self._write_tokens()
        if fail is None:
            await connection.finish(self._reply.ending())
            return Outcome.COMPLETED
        await self._keep_silent_until(self._pace.due_at(self._tokens))
        if fail == "stall":
            await self._keep_silent_until(math.inf)
        elif fail == "mid":
            await connection.finish(self._reply.failure(_FAILURE))
        elif fail == "truncate":
            await connection.finish()
        # A body that was cut is left unfinished, and so its connection is closed.
        return Outcome.FAILED

    async def _write_tokens(self) -> None:
        tokens = self._reply.tokens()
        sent = 0
        while sent < self._tokens:
            await self._keep_silent_until(self._pace.due_at(sent))
            due = min(self._pace.due_by(trio.current_time()), self._tokens)
            # At least one: the two ways to compute the schedule may differ in the last bit.
            count = max(1, min(due - sent, _MAX_TOKENS_PER_WRITE))
            opening = b"" if sent else self._reply.opening()
            await self._connection.write(opening + b"".join(islice(tokens, count)))
            self._written = trio.current_time()
            sent += count

    async def _keep_silent_until(self, time: float) -> None:
        """Wait, and break the silence with a comment where the settings ask for that."""
        while (next_comment := self._written + self._keepalive) < time:
            await self._ticker.sleep_until(next_comment)
            await self._connection.write(self._api.framing.comment)
            self._written = trio.current_time()
        await self._ticker.sleep_until(time)

    async def _answer(self) -> Outcome:
        """Answer with JSON, at the time when a stream would have ended."""
        connection, fail = self._connection, self._request.fail
        last = self._tokens - 1 if fail is None else self._tokens
        await self._ticker.sleep_until(self._pace.due_at(last))
        body = self._reply.whole()
        half = body[: len(body) // 2]
        if fail is None:
            await connection.respond(200, body)
            return Outcome.COMPLETED
        if fail == "stall":
            await self._ticker.sleep_until(math.inf)
        elif fail == "mid":
            error = msgspec.json.encode(self._api.error(_FAILURE))
            await connection.respond(_FAILURE.status, error, {"connection": "close"})
        elif fail == "truncate":
            await connection.respond(200, half)
        else:
            await connection.start(
                {"content-type": "application/json", "content-length": str(len(body))}
            )
            await connection.write(half)
        return Outcome.FAILED
