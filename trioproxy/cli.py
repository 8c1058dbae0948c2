"""The command line: `trioproxy serve`, `simulate`, `probe`, `top` and `demo`.

A command reads what it is told, runs what it names, and turns the result into an exit code: 0 for a
clean end (a SIGTERM or SIGINT is one), 1 for a failure at run time, 2 for a wrong command line or
setting. Errors are told on stderr, without a traceback. What a command runs is imported inside it,
so that `--help` answers at once.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import urlsplit

import click
import msgspec
import trio

from trioproxy import __version__
from trioproxy.config import (
    SETTINGS,
    ConfigError,
    Setting,
    Settings,
    load_settings,
    parse_address,
)

if TYPE_CHECKING:
    from trioproxy.telemetry import Listener

__all__ = ["main"]

_T = TypeVar("_T")

_SECTIONS = {
    "Listening": ("bind", "certfile", "keyfile", "cors_origins"),
    "Upstream": ("upstream", "upstream_key", "upstream_keep_alive", "trust_env", "default_stream"),
    "Generations": ("coalesce", "linger", "create_linger", "retention"),
    "Readers": (
        "on_lag",
        "max_lag",
        "write_timeout",
        "heartbeat",
        "flush_interval",
        "commit_after",
    ),
    "Time limits": (
        "connect_timeout",
        "first_token_timeout",
        "inter_token_timeout",
        "body_timeout",
        "drain",
    ),
    "Size limits": (
        "max_body",
        "max_event",
        "max_transcript",
        "max_hub",
        "max_subscribers",
        "max_generations",
    ),
    "Diagnosis": ("log", "traces", "debug"),
}
"""The settings as the help of `serve` shows them: a title, and the names under it."""


class _WrongSetting(click.ClickException):
    """Told without a reminder of the usage, for the wrong value may stand in a file."""

    exit_code = 2


class _SectionedCommand(click.Command):
    """A command whose help shows the settings by section, and its other options after them."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = {param.name: param.get_help_record(ctx) for param in self.get_params(ctx)}
        sections = [[records.pop(name) for name in names] for names in _SECTIONS.values()]
        for title, section in zip(
            [*_SECTIONS, "Options"], [*sections, list(records.values())], strict=True
        ):
            with formatter.section(title):
                formatter.write_dl([record for record in section if record is not None])


def _option(setting: Setting) -> click.Option:
    facts = [f"env: {setting.variable}"]
    if setting.default is not None:
        facts.append(f"default: {_default_text(setting)}")
    help_text = f"{setting.description}  [{'; '.join(facts)}]"
    if setting.is_switch:
        negative = setting.flag.replace("--", "--no-", 1)
        return click.Option([f"{setting.flag}/{negative}"], default=None, help=help_text)
    return click.Option([setting.flag], metavar=setting.form.metavar, help=help_text)


def _default_text(setting: Setting) -> str:
    if setting.is_switch:
        return str(setting.default).lower()
    if setting.form.metavar == "SIZE":
        return f"{setting.default / 2**20:g}MiB"
    return f"{setting.default:g}" if isinstance(setting.default, float) else str(setting.default)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="trioproxy")
def main() -> None:
    """A streaming proxy for language models: one upstream call, many readers, no leaked task."""


@main.command(cls=_SectionedCommand, params=[_option(setting) for setting in SETTINGS.values()])
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file of settings, such as linger = 5.  [env: TRIOPROXY_CONFIG]",
)
def serve(config: Path | None, **flags: str | bool | None) -> None:
    """Serve the proxy until SIGTERM or SIGINT.

    A flag wins over the environment, the environment over the file. Without an upstream, a
    simulated engine inside answers, so that it can be tried at once. Times are seconds, and inf
    switches a limit off; sizes are bytes or such as 512kB and 16MiB.
    """
    texts = {name: _flag_text(value) for name, value in flags.items()}
    try:
        settings = load_settings(flags=texts, environ=os.environ, file=config)
    except ConfigError as error:
        raise _WrongSetting(str(error)) from None
    listening: list[str] = []

    def announce(binds: list[str]) -> None:
        listening.extend(binds)
        upstream = settings.upstream or "simulated"
        click.echo(
            f"trioproxy listening on {', '.join(binds)} "
            f"(upstream {upstream}; sharing: {settings.coalesce})"
        )

    try:
        trio.run(_serve, settings, announce)
    except Exception as error:
        refusal = _os_error(error)
        if listening or refusal is None:
            raise
        files = f" with {settings.certfile}, {settings.keyfile}" if settings.certfile else ""
        raise _cannot_listen(settings.bind + files, refusal) from None


def _flag_text(value: str | bool | None) -> str | None:
    return str(value).lower() if isinstance(value, bool) else value


async def _serve(settings: Settings, announce: Callable[[list[str]], None]) -> None:
    from trioproxy.serving import serve
    from trioproxy.simulator import EngineSettings, open_engine
    from trioproxy.telemetry import configure_logging

    configure_logging(settings.log)
    async with AsyncExitStack() as stack:
        listeners = [await stack.enter_async_context(_open_traces())] if settings.traces else []
        upstream_url = settings.upstream
        if upstream_url is None:
            engine = await stack.enter_async_context(open_engine("127.0.0.1:0", EngineSettings()))
            upstream_url = engine.url
        await serve(settings, upstream_url=upstream_url, on_listening=announce, listeners=listeners)


def _open_traces() -> AbstractAsyncContextManager[Listener]:
    try:
        from trioproxy.telemetry.traces import open_traces
    except ModuleNotFoundError:
        raise _WrongSetting("--traces needs OpenTelemetry: pip install 'trioproxy[otel]'") from None
    return open_traces()


def _address(context: click.Context, param: click.Parameter, text: str) -> str:
    try:
        return parse_address(text)
    except ValueError:
        raise click.BadParameter("expected an address such as 127.0.0.1:9010") from None


@main.command()
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
        raise _WrongSetting(str(error)) from None
    try:
        trio.run(_until_signalled, partial(simulator.simulate, bind, settings))
    except Exception as error:
        refusal = _os_error(error)
        if refusal is None:
            raise
        raise _cannot_listen(bind, refusal) from None


async def _until_signalled(run: Callable[[], Awaitable[_T]]) -> _T | None:
    """What `run` returns, or None where SIGINT or SIGTERM came first and cancelled it."""
    result = None
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_next, signals, nursery.cancel_scope)
            result = await run()
            nursery.cancel_scope.cancel(reason="done")
    return result


async def _cancel_on_next(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await anext(signals)
    scope.cancel(reason="a signal came")


def _body(context: click.Context, param: click.Parameter, text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        msgspec.json.decode(text)
    except ValueError as error:
        raise click.BadParameter(f"expected JSON: {error}") from None
    return text.encode()


def _headers(
    context: click.Context, param: click.Parameter, lines: tuple[str, ...]
) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        header = re.fullmatch(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([ -~\t]*)", line)
        if header is None:
            raise click.BadParameter("expected a header such as 'Authorization: Bearer KEY'")
        headers[header[1]] = header[2].rstrip()
    return headers


_header_option = click.option(
    "-H",
    "--header",
    "headers",
    metavar="'NAME: VALUE'",
    multiple=True,
    callback=_headers,
    help="A request header, such as 'Authorization: Bearer KEY'; can be given more than once.",
)


def _url(context: click.Context, param: click.Parameter, text: str) -> str:
    try:
        urlsplit(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return text


@main.command()
@click.argument("url", callback=_url)
@click.option(
    "-d",
    "--data",
    "body",
    metavar="JSON",
    callback=_body,
    help="The request's body; without it, a short completion is asked for.",
)
@_header_option
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many streams to open at once.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the reports as JSON.")
@click.pass_context
def probe(
    context: click.Context,
    url: str,
    body: bytes | None,
    headers: dict[str, str],
    count: int,
    as_json: bool,
) -> None:
    """Read the stream at URL and tell how it flows: time to the first token, gaps, bunching.

    The exit code is 0 when every stream ended well and its tokens came one by one.
    """
    from rich.console import Console

    from trioproxy import probe

    streams = partial(probe.probe, url, body=body, headers=headers, count=count)
    reports = trio.run(_until_signalled, streams)
    if reports is None:
        raise click.Abort
    if as_json:
        click.echo(msgspec.json.encode(reports))
    else:
        Console().print(probe.render(reports))
    context.exit(probe.exit_code(reports))


@main.command()
@click.argument("url", callback=_url, default="http://127.0.0.1:9010")
@_header_option
@click.option("--once", is_flag=True, help="Print the table as it is now, and end.")
def top(url: str, headers: dict[str, str], once: bool) -> None:
    """Show the generations of the proxy at URL as they run, until Ctrl-C.

    One sees what belongs to the key that one gives, as with every request.
    """
    import httpx
    from rich.console import Console

    from trioproxy import top

    show = partial(top.top, url, headers=headers, once=once, console=Console())
    try:
        trio.run(_until_signalled, show)
    except* (top.ProxyRefused, httpx.HTTPError) as errors:
        raise click.ClickException(str(_first(errors)) or "the proxy does not answer") from None


def _first(error: BaseException) -> BaseException:
    """The error itself, or the first in a group."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("tuple[BaseException, ...]", error.exceptions)[0]
    return error


@main.command()
@click.pass_context
def demo(context: click.Context) -> None:
    """Show on this machine alone what the proxy does, and whether it holds."""
    from trioproxy.demo import run_demo

    context.exit(run_demo())


def _os_error(error: Exception) -> OSError | None:
    """The `OSError` that an exception is, or that a chain of groups of one comes down to."""
    while isinstance(error, ExceptionGroup):
        error, *others = cast("tuple[Exception, ...]", error.exceptions)
        if others:
            return None
    return error if isinstance(error, OSError) else None


def _cannot_listen(where: str, error: OSError) -> click.ClickException:
    return click.ClickException(f"cannot listen on {where}: {error.strerror or error}")
