"""`trioproxy serve`, with an option for every setting, and what helps to write its file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
import trio

from trioproxy.cli.running import WrongSetting, cannot_listen, os_error, single_error
from trioproxy.config import (
    NAME_EXPECTED,
    SETTINGS,
    WORKER_VARIABLE,
    ConfigError,
    Name,
    Setting,
    Settings,
    describe_settings,
    load_settings,
)

if TYPE_CHECKING:
    from trioproxy.telemetry import Listener, LogWriter

_SECTIONS = {
    "Listening": (
        "bind",
        "reuse_port",
        "workers",
        "certfile",
        "keyfile",
        "trusted_proxies",
        "cors_origins",
        "insecure_open",
    ),
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
        "drain_delay",
        "drain",
    ),
    "Size limits": (
        "max_head",
        "max_body",
        "max_prompt",
        "max_event",
        "max_transcript",
        "max_hub",
    ),
    "Use": (
        "requests_per_minute",
        "rate_limiter",
        "burst",
        "max_generations",
        "max_total_generations",
        "max_duration",
        "max_subscribers",
        "max_tenant_subscribers",
        "max_connections",
        "max_address_connections",
        "max_loop_lag",
    ),
    "Cluster": (
        "cluster",
        "cluster_publish",
        "cluster_lease",
        "cluster_down",
        "cluster_patience",
    ),
    "Answers that are kept": ("cache_ttl", "cache_size", "cache_replay_rate"),
    "Diagnosis": ("log", "traces", "debug"),
}
"""The settings as the help of `serve` shows them: a title, and the names under it."""


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
    if setting.default not in (None, ""):
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
        unit, name = (2**20, "MiB") if setting.default >= 2**20 else (2**10, "KiB")
        return f"{setting.default / unit:g}{name}"
    return f"{setting.default:g}" if isinstance(setting.default, float) else str(setting.default)


@click.command(cls=_SectionedCommand, params=[_option(setting) for setting in SETTINGS.values()])
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file of settings and tenants.  [env: TRIOPROXY_CONFIG]",
)
def serve(config: Path | None, **flags: str | bool | None) -> None:
    """Serve the proxy until SIGTERM or SIGINT. With SIGHUP it reads FILE again.

    A flag wins over the environment, the environment over the file. Without an upstream, a
    simulated engine inside answers, so that it can be tried at once. Times are seconds, and inf
    switches a limit off; sizes are bytes or such as 512kB and 16MiB.
    """
    texts = {name: _flag_text(value) for name, value in flags.items()}
    environ = dict(os.environ)

    def load() -> Settings:
        return load_settings(flags=texts, environ=environ, file=config)

    try:
        settings = load()
    except ConfigError as error:
        raise WrongSetting(str(error)) from None
    from trioproxy.telemetry import open_log

    listening: list[str] = []

    def announce(binds: list[str]) -> None:
        listening.extend(binds)
        if is_worker:
            return  # the supervisor says it, once
        workers = f"{settings.workers} workers; " if settings.workers > 1 else ""
        click.echo(
            f"trioproxy listening on {', '.join(binds)} "
            f"({workers}upstream {_upstreams(settings)}; sharing: {settings.coalesce})"
        )

    is_worker = WORKER_VARIABLE in os.environ
    _check_cluster(settings)
    try:
        with open_log(settings.log) as log:
            if settings.workers > 1 and not is_worker:
                _supervise(settings, announce, load)
            else:
                trio.run(_serve, settings, announce, log, load)
    except Exception as error:
        refusal = os_error(error)
        if listening or refusal is None:
            raise
        files = f" with {settings.certfile}, {settings.keyfile}" if settings.certfile else ""
        raise cannot_listen(refusal.filename or settings.bind + files, refusal) from None


def _upstreams(settings: Settings) -> str:
    names = [upstream.name for upstream in settings.gateway.upstreams]
    return settings.upstream or ", ".join(names) or "simulated"


def _flag_text(value: str | bool | None) -> str | None:
    return str(value).lower() if isinstance(value, bool) else value


async def _serve(
    settings: Settings,
    announce: Callable[[list[str]], None],
    log: LogWriter,
    load: Callable[[], Settings],
) -> None:
    from trioproxy.serving import serve
    from trioproxy.simulator import EngineSettings, open_engine

    async with AsyncExitStack() as stack:
        listeners = [await stack.enter_async_context(_open_traces())] if settings.traces else []
        upstream_url = None
        if settings.is_simulated:
            engine = await stack.enter_async_context(open_engine("127.0.0.1:0", EngineSettings()))
            upstream_url = engine.url
        run = partial(
            serve,
            settings,
            upstream_url=upstream_url,
            on_listening=announce,
            listeners=listeners,
            log=log,
            reload=load,
        )
        if WORKER_VARIABLE in os.environ:
            from trioproxy.serving.supervising import open_place

            run = partial(run, place=await stack.enter_async_context(open_place(os.environ)))
        await run()


def _supervise(
    settings: Settings, announce: Callable[[list[str]], None], load: Callable[[], Settings]
) -> None:
    from trioproxy.serving.supervising import CannotStart, NoBroker, find_program, supervise

    try:
        if settings.cluster is None:
            find_program()
        # The workers are what this process is, with the same options, those of Python included.
        command = [sys.executable, *sys.orig_argv[1:]]
        trio.run(
            partial(supervise, settings, command, on_listening=announce, reload=load),
        )
    except ModuleNotFoundError:
        raise WrongSetting(
            "--workers needs a broker: name one with --cluster, or pip install 'trioproxy[workers]'"
        ) from None
    except Exception as error:
        if isinstance(single := single_error(error), (CannotStart, NoBroker)):
            raise click.ClickException(str(single)) from None
        raise


def _open_traces() -> AbstractAsyncContextManager[Listener]:
    try:
        from trioproxy.telemetry.traces import open_traces
    except ModuleNotFoundError:
        raise WrongSetting("--traces needs OpenTelemetry: pip install 'trioproxy[otel]'") from None
    return open_traces()


def _check_cluster(settings: Settings) -> None:
    if settings.cluster is None and settings.workers == 1:
        return
    try:
        from trioproxy.cluster.redis import parse_address
    except ModuleNotFoundError:
        needs = "--cluster needs coredis: pip install 'trioproxy[cluster]'"
        if settings.cluster is None:
            needs = "--workers needs coredis: pip install 'trioproxy[workers]'"
        raise WrongSetting(needs) from None
    if settings.cluster is None:
        return
    try:
        parse_address(settings.cluster)
    except (ValueError, OSError) as error:
        raise WrongSetting(f"cluster: {error}") from None


@click.command("check-config")
@click.argument("file", type=click.Path(path_type=Path))
def check_config(file: Path) -> None:
    """Read the settings in FILE and print what holds then, defaults included.

    The environment counts as it does for `serve`. Secrets are masked. The exit code is 2 where
    something is wrong.
    """
    try:
        settings = load_settings(flags={}, environ=os.environ, file=file)
    except ConfigError as error:
        raise WrongSetting(str(error)) from None
    click.echo(describe_settings(settings), nl=False)


def _name(context: click.Context, param: click.Parameter, text: str) -> str:
    try:
        return msgspec.convert(text, Name)
    except msgspec.ValidationError:
        raise click.BadParameter(f"expected {NAME_EXPECTED}") from None


@click.command("make-key")
@click.option(
    "--name",
    default="alice",
    show_default=True,
    callback=_name,
    help="Of the tenant whose it is.",
)
@click.option("--admin", is_flag=True, help="It may see what operators see.")
def make_key(name: str, admin: bool) -> None:
    """Make an API key for a tenant: print it, and the table that goes into the file.

    The file has the key's hash only, so the key itself is seen here and never again.
    """
    from trioproxy import gateway

    key = gateway.make_key()
    click.echo(f"key: {key}\n", err=True)
    click.echo(f'[[tenant]]\nname = "{name}"\nkeys = ["{gateway.hash_key(key.encode())}"]')
    if admin:
        click.echo("admin = true")
