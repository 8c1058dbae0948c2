"""What the proxy logs of requests, over real sockets: who, what and how, and no word of theirs."""

from __future__ import annotations

import logging

import pytest

from tests.web.service import COMPLETIONS, HALF_OF_EIGHT_THEN_SILENCE, open_simulated

SECRETS = ("Bearer hush", "the prompt", "hush")


async def test_every_request_is_logged_once_with_what_it_was_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="trioproxy.requests")
    headers = {"authorization": "Bearer hush"}
    async with open_simulated() as service:
        answer = await service.http.post(
            COMPLETIONS, json={"prompt": "the prompt", "stream": True}, headers=headers
        )
        await service.http.get("/v1/generations/gen_unknown")
        async with service.ask(headers=HALF_OF_EIGHT_THEN_SILENCE | headers) as client:
            await client.response_head()
        await service.wait_released()

    told = [
        (record.__dict__["path"], record.__dict__["status"], record.__dict__["generation"])
        for record in caplog.records
        if record.message == "request" and "census" not in record.__dict__["path"]
    ]
    assert told[:2] == [
        (COMPLETIONS, 200, answer.headers["x-generation-id"]),
        ("/v1/generations/gen_unknown", 404, None),
    ]
    assert [(path, status) for path, status, _ in told[2:]] == [(COMPLETIONS, 200)]
    assert not any(
        secret in repr(record.__dict__) for record in caplog.records for secret in SECRETS
    )
