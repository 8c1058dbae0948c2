"""LiteLLM, and proxies behind and before it, as `docs/gateways.md` configures them: nothing but
addresses and keys is other than there."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers.litellm import serve
from benchmarks.processes import Process
from tests.docs.examples import examples_of
from tests.e2e.commands import Command, open_command
from trioproxy.config import Gateway, load_settings
from trioproxy.gateway import hash_key, make_key

LITELLM = "http://localhost:4000"
PROXY = "http://localhost:9010"
ENGINE = "http://localhost:8080"
KEY_HASH = "sha256:5e2b1c6f0a0c4e5f8f5d3f1f0f3b0f7c2d6e7a8b9c0d1e2f3a4b5c6d7e8f9a0b"
"""As the page prints them."""

MASTER_KEY = "sk-litellm"
TENANT_KEY, OPERATOR_KEY = make_key(), make_key()

OPERATOR = f"""
[[tenant]]
name = "operator"
keys = ["{hash_key(OPERATOR_KEY.encode())}"]
admin = true
"""
"""Who may ask the proxy what it holds."""

MODELS = """
  - model_name: m                # calls the engine itself
    litellm_params:
      model: openai/m
      api_base: http://localhost:8080/v1
      api_key: none
      rpm: 100000                # told in x-ratelimit- headers
  - model_name: messages
    litellm_params:
      model: anthropic/m
      api_base: http://localhost:8080
      api_key: none
  - model_name: refused          # comes to the proxy with a key that is none
    litellm_params:
      model: openai/m
      api_base: http://localhost:9010/v1
      api_key: tp-nobody
"""
"""What LiteLLM calls beside what the page prints."""

LISTED = ["m", "messages", "refused", "qwen", "claude"]


@contextmanager
def open_litellm(*, engine_url: str, proxy_url: str) -> Generator[Process]:
    """Run LiteLLM for the length of the block. It calls both."""
    printed = printed_as("in front: litellm", {})
    heading = "model_list:\n"
    assert printed.startswith(heading)
    configuration = heading + MODELS.lstrip("\n") + printed.removeprefix(heading)
    configuration = configuration.replace(ENGINE, engine_url).replace(PROXY, proxy_url)
    keys = {"LITELLM_MASTER_KEY": MASTER_KEY, "TRIOPROXY_KEY": TENANT_KEY}
    with serve(configuration, keys) as process:
        yield process


@contextmanager
def open_proxy_of_litellm(engine_url: str, folder: Path, *options: str) -> Generator[Command]:
    """Run the proxy that LiteLLM comes to."""
    file = folder / "proxy.toml"
    tenant = hash_key(TENANT_KEY.encode())
    printed = printed_as("in front: proxy", {ENGINE: engine_url, KEY_HASH: tenant})
    file.write_text(printed + OPERATOR)
    arguments = ["--bind", "127.0.0.1:0", "--config", str(file), "--debug", *options]
    with open_command("serve", *arguments) as command:
        yield command


def gateway_of(name: str, folder: Path, substitutes: Mapping[str, str]) -> Gateway:
    """The tables that the page prints for a proxy that comes to LiteLLM."""
    file = folder / "proxy.toml"
    file.write_text(printed_as(name, substitutes))
    return load_settings(flags={}, environ={"LITELLM_KEY": MASTER_KEY}, file=file).gateway


def printed_as(name: str, substitutes: Mapping[str, str]) -> str:
    """An example of the page, with what is other here."""
    text = examples_of("gateways.md")[name].text
    for printed, here in substitutes.items():
        assert text.count(printed) == 1, f"{printed!r} in {name}"
        text = text.replace(printed, here)
    return text
