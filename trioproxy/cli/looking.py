"""`trioproxy probe` and `trioproxy top`: looking at a proxy from outside."""

from __future__ import annotations

import re
from functools import partial
from typing import cast
from urllib.parse import urlsplit

import click
import msgspec
import trio

from trioproxy.cli.running import until_signalled


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


@click.command()
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
    reports = trio.run(until_signalled, streams)
    if reports is None:
        raise click.Abort
    if as_json:
        click.echo(msgspec.json.encode(reports))
    else:
        Console().print(probe.render(reports))
    context.exit(probe.exit_code(reports))


@click.command()
@click.argument("url", callback=_url, default="http://127.0.0.1:9010")
@_header_option
@click.option("--once", is_flag=True, help="Print the table as it is now, and end.")
@click.option("--cluster", "wide", is_flag=True, help="Show what all nodes of the cluster run.")
def top(url: str, headers: dict[str, str], once: bool, wide: bool) -> None:
    """Show the generations of the proxy at URL as they run, until Ctrl-C.

    One sees what belongs to the key that one gives, as with every request.
    """
    import httpx
    from rich.console import Console

    from trioproxy import top

    show = partial(top.top, url, headers=headers, once=once, wide=wide, console=Console())
    try:
        trio.run(until_signalled, show)
    except* (top.ProxyRefused, httpx.HTTPError) as errors:
        raise click.ClickException(str(_first(errors)) or "the proxy does not answer") from None


def _first(error: BaseException) -> BaseException:
    """The error itself, or the first in a group."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("tuple[BaseException, ...]", error.exceptions)[0]
    return error
