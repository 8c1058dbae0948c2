"""LiteLLM's proxy, run by its own command with a configuration of one model.

The command is `litellm` on the PATH, or what the environment variable LITELLM names: its
dependencies are many, and are best kept in an environment of their own (PyPI: `litellm[proxy]`).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import Process, free_port, run_program

COMMAND = "LITELLM"
START_SECONDS = 120.0

ENVIRONMENT = {
    "AIOHTTP_CONNECTOR_LIMIT": "10000",  # or 1,000 clients wait for 500 calls
    "AIOHTTP_CONNECTOR_LIMIT_PER_HOST": "10000",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or it fetches a list of prices
    "LITELLM_TELEMETRY": "False",
    "DO_NOT_TRACK": "1",
}


def missing() -> str | None:
    """Why it cannot run here, or None."""
    if shutil.which(_command()):
        return None
    return f"litellm is not installed (PyPI: litellm[proxy]), or ${COMMAND} does not name it"


@contextmanager
def launch(engine_url: str) -> Generator[Process]:
    """Run it in front of the engine for the length of the block. It takes some 10 s to start."""
    with serve(json.dumps(_configuration(engine_url))) as process:  # JSON is YAML
        yield process


@contextmanager
def serve(configuration: str, environment: Mapping[str, str] | None = None) -> Generator[Process]:
    """Run it with this configuration, in YAML, and these variables, for the length of the block."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="litellm-") as directory:
        file = Path(directory, "config.yaml")
        file.write_text(configuration)
        argv = [
            *(_command(), "--config", str(file)),
            *("--host", "127.0.0.1", "--port", str(port)),
            *("--num_workers", "1", "--telemetry", "False"),
        ]
        environment = ENVIRONMENT | (environment or {})
        with run_program(argv, port, environment=environment, seconds=START_SECONDS) as process:
            yield process


def _command() -> str:
    return os.environ.get(COMMAND, "litellm")


def _configuration(engine_url: str) -> dict[str, object]:
    """One model, which is also what a request without a model gets; no retries, for a call that is
    made twice would be counted twice."""
    return {
        "model_list": [
            {
                "model_name": "simulated",
                "litellm_params": {
                    "model": "openai/simulated",
                    "api_base": f"{engine_url}/v1",
                    "api_key": "none",
                    "max_retries": 0,
                },
            }
        ],
        "litellm_settings": {"telemetry": False, "num_retries": 0, "request_timeout": 600},
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
        "general_settings": {
            "completion_model": "simulated",
            "dangerously_permit_weak_or_unset_master_key": True,  # it is reached from here only
            "forward_client_headers_to_llm_api": True,
        },
    }
