"""What the proxy measures is what its client saw and what its engine did."""

from __future__ import annotations

import json
from itertools import pairwise
from statistics import median

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.commands import open_proxy, open_simulator
from tests.e2e.polling import fetch
from trioproxy.probe import probe

TOKENS = 1_000
RATE = 200
TTFT = 0.3
WITHIN = 0.002
"""Seconds between one's median and another's."""


async def test_timing_metrics_probe_and_engine_agree() -> None:
    answer = ["--rate", str(RATE), "--tokens", str(TOKENS), "--ttft", str(TTFT)]
    with open_simulator(*answer) as engine, open_proxy(engine.url) as proxy:
        body = json.dumps({"prompt": "x", "stream": True, "max_tokens": TOKENS}).encode()
        [report] = await probe(f"{proxy.url}/v1/completions", body=body)
        [generation] = json.loads(await fetch(proxy.url, "/v1/generations"))["data"]
        timing = json.loads(await fetch(proxy.url, f"/v1/generations/{generation['id']}/timing"))
        metrics = (await fetch(proxy.url, "/metrics")).decode()

    values = {
        sample.name: sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }
    assert (report.tokens, timing["tokens"]) == (TOKENS, TOKENS)
    assert report.gap_p50 is not None
    assert report.ttft is not None

    engines, seen, told = 1 / RATE, report.gap_p50, timing["inter_token_seconds"]["p50"]
    assert (seen, told) == pytest.approx((engines, engines), abs=WITHIN)
    timeline = median(after - before for (_, before), (_, after) in pairwise(timing["timeline"]))
    assert timeline == pytest.approx(engines, abs=WITHIN)
    per_token = values["gen_ai_server_time_per_output_token_seconds_sum"]
    assert per_token == pytest.approx(engines, abs=WITHIN)

    # The engine counts from when it has read the request: there is a connection before that.
    assert TTFT <= timing["ttft_seconds"] <= report.ttft + WITHIN
    assert values["gen_ai_server_time_to_first_token_seconds_sum"] == timing["ttft_seconds"]
    assert values["gen_ai_server_request_duration_seconds_sum"] == pytest.approx(
        timing["duration_seconds"]
    )
    assert values["trioproxy_delivery_delay_seconds_count"] > TOKENS / 2
    assert values["trioproxy_event_loop_lag_seconds_count"] > 10
