"""What can be set: `Settings`, and the table that is read off its annotations."""

import math
import re
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from trioproxy.config.addresses import is_loopback, parse_binds, parse_proxies
from trioproxy.config.gateway import Gateway
from trioproxy.config.naming import KEY_EXPECTED, Key

PREFIX = "TRIOPROXY_"


def variable_of(name: str) -> str:
    """How the setting with this name is written in the environment."""
    return PREFIX + name.upper()


def parse_url(text: str) -> str:
    """Check the URL of an engine and return it without a / at its end. Raises `ValueError`."""
    # urlsplit drops tabs and newlines in silence, so they are looked for before it.
    if not text.isprintable() or re.search(r"[\s?#]", text):
        raise ValueError(text)
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname or url.port == 0:
        raise ValueError(text)
    if "@" in url.netloc:  # The URL is printed and logged: a password has no place in it.
        raise ValueError(text)
    return text.rstrip("/")


def _parse_origins(text: str) -> str:
    origins = [origin.strip() for origin in text.split(",") if origin.strip()]
    for origin in origins:
        if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/?#@]+", origin):
            raise ValueError(text)
    return ",".join(origins)


_DECIMAL = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_SIZE_UNITS = _DECIMAL | {"kib": 2**10, "mib": 2**20, "gib": 2**30}


def _parse_size(text: str) -> int:
    size = re.fullmatch(r"([0-9]+) ?([A-Za-z]*)", text)
    if size is None or size[2].lower() not in _SIZE_UNITS:
        raise ValueError(text)
    return int(size[1]) * _SIZE_UNITS[size[2].lower()]


class Form(NamedTuple):
    """How a value is written: its name in help, what an error expects, and how text is read."""

    metavar: str
    expected: str
    parse: Callable[[str], object] | None = None
    secret: bool = False


_LIMIT = Form("SECONDS", "a number of seconds > 0, or inf")
_BEAT = Form("SECONDS", "a number of seconds >= 0.1, or inf")
_DELAY = Form("SECONDS", "a number of seconds >= 0, or inf")
_STAY = Form("SECONDS", "a number of seconds >= 0")
_RATE = Form("NUMBER", "a number > 0, or inf")
_SIZE = Form("SIZE", "a size >= 1 byte, such as 65536, 512kB or 16MiB", _parse_size)
_COUNT = Form("NUMBER", "a whole number >= 1")
_BOUND = Form("NUMBER", "a number >= 1, or inf")
_SWITCH = Form("BOOLEAN", "true or false")
_BINDS = Form(
    "ADDRESSES",
    "addresses such as 127.0.0.1:9010 and unix:/run/proxy.sock, separated by commas",
    parse_binds,
)
_PROXIES = Form(
    "NETWORKS", "addresses such as 10.0.0.0/8, separated by commas, or unix", parse_proxies
)
URL = Form("URL", "an http(s) URL with a host, and no user, query or fragment", parse_url)
_ORIGINS = Form(
    "ORIGINS", "origins such as https://app.example, separated by commas, or *", _parse_origins
)
_KEY = Form("KEY", KEY_EXPECTED, secret=True)
_PATH = Form("FILE", "a file name")

# inf switches a limit or a delay off. What keeps a generation in memory must end some day.
_Limit = Annotated[float, Meta(gt=0, extra={"form": _LIMIT})]
# Hearts that beat faster than tokens can be taken would leave no time for a token.
_Beat = Annotated[float, Meta(ge=0.1, extra={"form": _BEAT})]
_Delay = Annotated[float, Meta(ge=0, extra={"form": _DELAY})]
_Stay = Annotated[float, Meta(ge=0, le=sys.float_info.max, extra={"form": _STAY})]
_Rate = Annotated[float, Meta(gt=0, extra={"form": _RATE})]
_Size = Annotated[int, Meta(ge=1, extra={"form": _SIZE})]
_Count = Annotated[int, Meta(ge=1, extra={"form": _COUNT})]
_Bound = Annotated[float, Meta(ge=1, extra={"form": _BOUND})]
_Path = Annotated[Annotated[str, Meta(min_length=1)] | None, Meta(extra={"form": _PATH})]
_Switch = Annotated[bool, Meta(extra={"form": _SWITCH})]


Coalesce = Literal["explicit", "identical", "off"]
RateLimiter = Literal["sliding-window", "token-bucket"]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an operator can choose. Times are in seconds, sizes in bytes; `repr` masks the secret.

    Built directly, the values are taken as they are; `load_settings` is what checks them.
    """

    bind: Annotated[
        str,
        Meta(
            description="Addresses to listen on; port 0 picks one. Sockets that systemd hands over "
            "take their place.",
            extra={"form": _BINDS},
        ),
    ] = "127.0.0.1:9010"
    reuse_port: Annotated[
        _Switch,
        Meta(
            description="Let another process of this user listen on the same ports, so that a new "
            "one is there before the old one goes."
        ),
    ] = False
    certfile: Annotated[
        _Path, Meta(description="Certificate chain (PEM) to serve TLS with; needs keyfile.")
    ] = None
    keyfile: Annotated[_Path, Meta(description="Private key (PEM) of certfile.")] = None
    trusted_proxies: Annotated[
        str,
        Meta(
            description="Addresses whose X-Forwarded-For is believed; unix: of all that come over "
            "a Unix socket.",
            extra={"form": _PROXIES},
        ),
    ] = ""
    upstream: Annotated[
        str | None,
        Meta(
            description="The engine to call; a path is a prefix. Without it, a simulated engine.",
            extra={"form": URL},
        ),
    ] = None
    upstream_key: Annotated[
        Key | None,
        Meta(
            description="API key sent upstream in place of the client's credentials, in the form "
            "that they have. A command line can be read by others: prefer the environment.",
            extra={"form": _KEY},
        ),
    ] = None
    trust_env: Annotated[
        _Switch, Meta(description="Heed HTTP_PROXY and its like for calls upstream.")
    ] = False
    default_stream: Annotated[
        bool | None,
        Meta(
            description="Whether a request that does not say so is streamed. "
            "Unset: only with the simulated engine.",
            extra={"form": _SWITCH},
        ),
    ] = None
    coalesce: Annotated[
        Coalesce,
        Meta(
            description="Which requests share a generation: those that ask to (explicit), "
            "all identical ones in flight (identical), none (off)."
        ),
    ] = "explicit"
    linger: Annotated[
        _Stay, Meta(description="How long a generation outlives its last subscriber.")
    ] = 0.0
    create_linger: Annotated[
        _Stay, Meta(description="The same, for one made by POST /v1/generations.")
    ] = 30.0
    retention: Annotated[
        _Stay, Meta(description="How long an ended generation can still be read.")
    ] = 600.0
    on_lag: Annotated[
        Literal["wait", "skip", "evict"],
        Meta(
            description="A reader that falls behind reads on at its own pace (wait), "
            "jumps to live after a told gap (skip), or is sent away (evict)."
        ),
    ] = "wait"
    max_lag: Annotated[
        _Size, Meta(description="How far a reader may fall behind before on_lag applies.")
    ] = 2**20
    write_timeout: Annotated[
        _Limit, Meta(description="A reader whose socket takes no byte for so long is cut off.")
    ] = 30.0
    heartbeat: Annotated[_Beat, Meta(description="Silence before a heartbeat is sent.")] = 15.0
    flush_interval: Annotated[
        _Delay,
        Meta(
            description="Least time between two writes to a reader; what comes meanwhile goes in "
            "one. For engines so fast that each token by itself is a burden."
        ),
    ] = 0.0
    commit_after: Annotated[
        _Delay, Meta(description="Silence of the upstream before the client is answered 200.")
    ] = 10.0
    upstream_keep_alive: Annotated[
        _Delay,
        Meta(
            description="How long an idle connection to the engine is kept for the next call; "
            "0: each call has its own. It must be less than the engine's own limit."
        ),
    ] = 4.0
    connect_timeout: Annotated[_Limit, Meta(description="Longest wait to connect upstream.")] = 5.0
    first_token_timeout: Annotated[
        _Limit, Meta(description="Longest wait for the upstream's first event.")
    ] = 600.0
    inter_token_timeout: Annotated[
        _Limit, Meta(description="Longest wait between two of its events.")
    ] = 120.0
    body_timeout: Annotated[_Limit, Meta(description="Longest wait for a whole body.")] = 30.0
    drain_delay: Annotated[
        _Stay,
        Meta(
            description="How long clients are let in at shutdown while /readyz says 503 already, "
            "so that whoever balances the load sees it."
        ),
    ] = 0.0
    drain: Annotated[
        _Delay, Meta(description="What running generations get to finish in at shutdown.")
    ] = 30.0
    max_body: Annotated[_Size, Meta(description="Largest request body.")] = 8 * 2**20
    max_event: Annotated[_Size, Meta(description="Largest event of the upstream.")] = 2**20
    max_transcript: Annotated[_Size, Meta(description="Largest transcript.")] = 16 * 2**20
    max_hub: Annotated[
        _Size, Meta(description="Most that all transcripts hold; the oldest ended ones go first.")
    ] = 512 * 2**20
    max_head: Annotated[_Size, Meta(description="Largest head of a request.")] = 64 * 2**10
    max_prompt: Annotated[
        _Bound, Meta(description="Most characters of text that a call may bring.")
    ] = math.inf
    max_duration: Annotated[
        _Limit, Meta(description="How long a generation may run; it is cancelled then.")
    ] = math.inf
    max_subscribers: Annotated[_Count, Meta(description="Most readers of a generation.")] = 10_000
    max_tenant_subscribers: Annotated[
        _Bound, Meta(description="Most readers that all of a tenant's generations have at a time.")
    ] = math.inf
    max_generations: Annotated[_Count, Meta(description="Most running for a tenant.")] = 1_000
    max_total_generations: Annotated[
        _Bound, Meta(description="Most running for all tenants together; then new ones are shed.")
    ] = math.inf
    max_loop_lag: Annotated[
        _Limit,
        Meta(description="New calls are shed while the event loop was so late in the last second."),
    ] = 0.5
    max_connections: Annotated[
        _Bound, Meta(description="Most connections of clients; further ones are turned away.")
    ] = math.inf
    max_address_connections: Annotated[_Bound, Meta(description="The same, from one address.")] = (
        math.inf
    )
    requests_per_minute: Annotated[
        _Bound, Meta(description="How often each tenant may ask for a generation.")
    ] = math.inf
    rate_limiter: Annotated[
        RateLimiter,
        Meta(
            description="So many in any minute (sliding-window), or so many as a minute goes by, "
            "and some at once (token-bucket)."
        ),
    ] = "sliding-window"
    burst: Annotated[_Count, Meta(description="How many a token-bucket lets through at once.")] = 10
    cors_origins: Annotated[
        str,
        Meta(
            description="Web pages of which origins may use the proxy from a browser, * for all.",
            extra={"form": _ORIGINS},
        ),
    ] = ""
    cache_ttl: Annotated[
        _Stay,
        Meta(
            description="How long a complete answer may answer the same request of the same tenant "
            "again, without a call; 0: not at all."
        ),
    ] = 0.0
    cache_size: Annotated[_Size, Meta(description="Most that all answers kept so take.")] = 64 * (
        2**20
    )
    cache_replay_rate: Annotated[
        _Rate,
        Meta(description="Events a second at which such an answer is streamed; inf: at once."),
    ] = math.inf
    log: Annotated[
        Literal["auto", "json", "text", "off"],
        Meta(
            description="A line on stdout for each request and each generation's end: JSON, text "
            "for people, or as stdout is no terminal or one (auto). Prompts and keys are never in "
            "it."
        ),
    ] = "auto"
    traces: Annotated[
        _Switch,
        Meta(
            description="Send a span for each generation to OpenTelemetry's collector, where "
            "OTEL_EXPORTER_OTLP_ENDPOINT says. Needs the extra otel."
        ),
    ] = False
    debug: Annotated[_Switch, Meta(description="Serve /debug/census: what is alive.")] = False
    insecure_open: Annotated[
        _Switch,
        Meta(
            description="Listen where others can come from, and answer to any name, although no "
            "tenant is configured: whoever comes may use the engine."
        ),
    ] = False
    gateway: Gateway = Gateway()

    @property
    def is_simulated(self) -> bool:
        """Whether no engine is named, so that a simulated one answers."""
        return self.upstream is None and not self.gateway.upstreams

    @property
    def binds(self) -> list[str]:
        """The addresses of ``bind``, one by one."""
        return self.bind.split(",")

    def may_listen_on(self, address: str) -> bool:
        """Whether those who can reach an address may use the engine."""
        return self.insecure_open or not self.gateway.is_open or is_loopback(address)

    @property
    def allowed_origins(self) -> frozenset[str]:
        """The origins of ``cors_origins``, one by one."""
        return frozenset(filter(None, self.cors_origins.split(",")))

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        shown = msgspec.structs.asdict(self)
        masked = {name: "***" for name in SETTINGS if SETTINGS[name].form.secret and shown[name]}
        return list((shown | masked).items())

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


_OWN_TABLES = ("cors", "cache")
"""Their settings' names begin with the table's."""

_RATES = ("requests_per_minute", "rate_limiter", "burst")


class Setting(NamedTuple):
    """One field of `Settings`, as its annotation describes it."""

    name: str
    description: str
    default: Any
    type: Any
    form: Form

    @property
    def flag(self) -> str:
        """How it is written on the command line: `--write-timeout`."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """How it is written in the environment: `TRIOPROXY_WRITE_TIMEOUT`."""
        return variable_of(self.name)

    @property
    def table(self) -> str:
        """The table of the file in which it stands."""
        table = self.name.partition("_")[0]
        if table in _OWN_TABLES:
            return table
        is_limit = self.name.startswith("max_") or self.name.endswith("_timeout")
        return "limits" if is_limit or self.name in _RATES else "server"

    @property
    def key(self) -> str:
        """How it is written in that table: `write_timeout`."""
        return self.name.removeprefix(f"{self.table}_") if self.table in _OWN_TABLES else self.name

    @property
    def is_switch(self) -> bool:
        """Whether its values are true and false."""
        return self.form is _SWITCH


def _read_off(field: msgspec.structs.FieldInfo) -> Setting:
    metas = [meta for meta in field.type.__metadata__ if isinstance(meta, Meta)]
    described = {key: value for meta in metas for key, value in (meta.extra or {}).items()}
    choices = [str(choice) for choice in get_args(field.type.__origin__)]
    form = described.get("form") or Form("|".join(choices), "one of " + ", ".join(choices))
    return Setting(field.name, metas[-1].description or "", field.default, field.type, form)


SETTINGS: Mapping[str, Setting] = {
    field.name: _read_off(field)
    for field in msgspec.structs.fields(Settings)
    if field.name != "gateway"
}
"""Every field of `Settings` that has a value of its own, by name, in the order of the class."""
