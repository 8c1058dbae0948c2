"""`trioproxy simulate`."""

from __future__ import annotations

from functools import partial

import click
import trio

from trioproxy.cli.running import WrongSetting, cannot_listen, os_error, until_signalled
from trioproxy.config import parse_address


def _address(context: click.Context, param: click.Parameter, text: str) -> str:
    try:
        return parse_address(text)
    except ValueError:
        raise click.BadParameter("expected an address such as 127.0.0.1:9010") from None


@click.command()
@click.option(
    "--bind",
    default="127.0.0.1:9011",
    show_default=True,
    metavar="HOST:PORT",
    callback=_address,
    help="Address to listen on; port 0 picks one.",
)
@click.option(
    "--rate", default=50.0, show_default=True, help="Tokens per second; 0: as fast as it can."
)
@click.option(
    "--tokens", default=64, show_default=True, help="Tokens of an answer, if not asked for some."
)
@click.option("--ttft", default=0.05, show_default=True, help="Seconds to the first token.")
def simulate(bind: str, rate: float, tokens: int, ttft: float) -> None:
    """Run a simulated engine until SIGTERM or SIGINT: an API to try the proxy on."""
    from trioproxy import simulator

    try:
        settings = simulator.EngineSettings(rate=rate, tokens=tokens, ttft=ttft)
    except ValueError as error:
        raise WrongSetting(str(error)) from None
    try:
        trio.run(until_signalled, partial(simulator.simulate, bind, settings))
    except Exception as error:
        refusal = os_error(error)
        if refusal is None:
            raise
        raise cannot_listen(bind, refusal) from None
