"""A log that nobody reads."""

import httpx

from tests.e2e.commands import Simulator, open_command

PATH = "/v1/" + "x" * 4000
PIPE_BYTES = 65536
MAX_LINES = 4 * PIPE_BYTES // len(PATH)


async def test_a_log_that_nobody_reads_stops_nobody(simulator: Simulator) -> None:
    with open_command(
        "serve", "--bind", "127.0.0.1:0", "--upstream", simulator.url, "--log", "json"
    ) as proxy:
        async with httpx.AsyncClient(base_url=proxy.url, trust_env=False) as client:
            statuses = {(await client.get(PATH)).status_code for _ in range(MAX_LINES)}
            health = await client.get("/healthz")
            metrics = await client.get("/metrics")

    assert (statuses, health.status_code) == ({404}, 200)
    assert "\ntrioproxy_log_lines_dropped_total 0.0\n" in metrics.text
