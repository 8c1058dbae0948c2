"""The command line: `trioproxy serve` and those that help.

A command reads what it is told, runs what it names, and turns the result into an exit code: 0 for a
clean end (a SIGTERM or SIGINT is one), 1 for a failure at run time, 2 for a wrong command line or
setting. Errors are told on stderr, without a traceback. What a command runs is imported inside it,
so that `--help` answers at once.
"""

from __future__ import annotations

import click

from trioproxy import __version__
from trioproxy.cli.looking import probe, top
from trioproxy.cli.serving import check_config, make_key, serve
from trioproxy.cli.simulating import simulate

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="trioproxy")
def main() -> None:
    """A streaming proxy for language models: one upstream call, many readers, no leaked task."""


for command in (serve, check_config, make_key, simulate, probe, top):
    main.add_command(command)


@main.command()
@click.pass_context
def demo(context: click.Context) -> None:
    """Show on this machine alone what the proxy does, and whether it holds."""
    from trioproxy.demo import run_demo

    context.exit(run_demo())
