"""What can be set: `Settings`, and the table that is read off its annotations."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from trioproxy.config.addresses import is_loopback
from trioproxy.config.forms import (
    BINDS,
    BROKER,
    KEY,
    ORIGINS,
    PROXIES,
    SWITCH,
    URL,
    Beat,
    Bound,
    Count,
    Delay,
    Lease,
    Limit,
    Path,
    Rate,
    Size,
    Stay,
    Switch,
)
from trioproxy.config.gateway import Gateway
from trioproxy.config.naming import Key
from trioproxy.config.setting import Setting, read_off

Coalesce = Literal["explicit", "identical", "off"]
RateLimiter = Literal["sliding-window", "token-bucket"]
Publish = Literal["demand", "always"]
WhenDown = Literal["local", "refuse"]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an operator can choose. Times are in seconds, sizes in bytes; `repr` masks the secret.

    Built directly, the values are taken as they are; `load_settings` is what checks them.
    """

    bind: Annotated[
        str,
        Meta(
            description="Addresses to listen on; port 0 picks one. Sockets that systemd hands over "
            "take their place.",
            extra={"form": BINDS},
        ),
    ] = "127.0.0.1:9010"
    reuse_port: Annotated[
        Switch,
        Meta(
            description="Let another process of this user listen on the same ports, so that a new "
            "one is there before the old one goes."
        ),
    ] = False
    certfile: Annotated[
        Path, Meta(description="Certificate chain (PEM) to serve TLS with; needs keyfile.")
    ] = None
    keyfile: Annotated[Path, Meta(description="Private key (PEM) of certfile.")] = None
    trusted_proxies: Annotated[
        str,
        Meta(
            description="Addresses whose X-Forwarded-For is believed; unix: of all that come over "
            "a Unix socket.",
            extra={"form": PROXIES},
        ),
    ] = ""
    workers: Annotated[
        Count,
        Meta(
            description="How many processes serve; more than one share their generations by "
            "--cluster, or by a broker of their own (the extra workers)."
        ),
    ] = 1
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
            extra={"form": KEY},
        ),
    ] = None
    trust_env: Annotated[
        Switch, Meta(description="Heed HTTP_PROXY and its like for calls upstream.")
    ] = False
    default_stream: Annotated[
        bool | None,
        Meta(
            description="Whether a request that does not say so is streamed. "
            "Unset: only with the simulated engine.",
            extra={"form": SWITCH},
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
        Stay, Meta(description="How long a generation outlives its last subscriber.")
    ] = 0.0
    create_linger: Annotated[
        Stay, Meta(description="The same, for one made by POST /v1/generations.")
    ] = 30.0
    retention: Annotated[
        Stay, Meta(description="How long an ended generation can still be read.")
    ] = 600.0
    on_lag: Annotated[
        Literal["wait", "skip", "evict"],
        Meta(
            description="A reader that falls behind reads on at its own pace (wait), "
            "jumps to live after a told gap (skip), or is sent away (evict)."
        ),
    ] = "wait"
    max_lag: Annotated[
        Size, Meta(description="How far a reader may fall behind before on_lag applies.")
    ] = 2**20
    write_timeout: Annotated[
        Limit, Meta(description="A reader whose socket takes no byte for so long is cut off.")
    ] = 30.0
    heartbeat: Annotated[Beat, Meta(description="Silence before a heartbeat is sent.")] = 15.0
    flush_interval: Annotated[
        Delay,
        Meta(
            description="Least time between two writes to a reader; what comes meanwhile goes in "
            "one. For engines so fast that each token by itself is a burden."
        ),
    ] = 0.0
    commit_after: Annotated[
        Delay, Meta(description="Silence of the upstream before the client is answered 200.")
    ] = 10.0
    upstream_keep_alive: Annotated[
        Delay,
        Meta(
            description="How long an idle connection to the engine is kept for the next call; "
            "0: each call has its own. It must be less than the engine's own limit."
        ),
    ] = 4.0
    connect_timeout: Annotated[Limit, Meta(description="Longest wait to connect upstream.")] = 5.0
    first_token_timeout: Annotated[
        Limit, Meta(description="Longest wait for the upstream's first event.")
    ] = 600.0
    inter_token_timeout: Annotated[
        Limit, Meta(description="Longest wait between two of its events.")
    ] = 120.0
    body_timeout: Annotated[Limit, Meta(description="Longest wait for a whole body.")] = 30.0
    drain_delay: Annotated[
        Stay,
        Meta(
            description="How long clients are let in at shutdown while /readyz says 503 already, "
            "so that whoever balances the load sees it."
        ),
    ] = 0.0
    drain: Annotated[
        Delay, Meta(description="What running generations get to finish in at shutdown.")
    ] = 30.0
    max_body: Annotated[Size, Meta(description="Largest request body.")] = 8 * 2**20
    max_event: Annotated[Size, Meta(description="Largest event of the upstream.")] = 2**20
    max_transcript: Annotated[Size, Meta(description="Largest transcript.")] = 16 * 2**20
    max_hub: Annotated[
        Size, Meta(description="Most that all transcripts hold; the oldest ended ones go first.")
    ] = 512 * 2**20
    max_head: Annotated[Size, Meta(description="Largest head of a request.")] = 64 * 2**10
    max_prompt: Annotated[
        Bound, Meta(description="Most characters of text that a call may bring.")
    ] = math.inf
    max_duration: Annotated[
        Limit, Meta(description="How long a generation may run; it is cancelled then.")
    ] = math.inf
    max_subscribers: Annotated[Count, Meta(description="Most readers of a generation.")] = 10_000
    max_tenant_subscribers: Annotated[
        Bound, Meta(description="Most readers that all of a tenant's generations have at a time.")
    ] = math.inf
    max_generations: Annotated[Bound, Meta(description="Most running for a tenant.")] = 1_000
    max_total_generations: Annotated[
        Bound, Meta(description="Most running for all tenants together; then new ones are shed.")
    ] = math.inf
    max_loop_lag: Annotated[
        Limit,
        Meta(description="New calls are shed while the event loop was so late in the last second."),
    ] = 1.0
    max_connections: Annotated[
        Bound, Meta(description="Most connections of clients; further ones are turned away.")
    ] = math.inf
    max_address_connections: Annotated[Bound, Meta(description="The same, from one address.")] = (
        math.inf
    )
    requests_per_minute: Annotated[
        Bound, Meta(description="How often each tenant may ask for a generation.")
    ] = math.inf
    rate_limiter: Annotated[
        RateLimiter,
        Meta(
            description="So many in any minute (sliding-window), or so many as a minute goes by, "
            "and some at once (token-bucket)."
        ),
    ] = "sliding-window"
    burst: Annotated[Count, Meta(description="How many a token-bucket lets through at once.")] = 10
    cors_origins: Annotated[
        str,
        Meta(
            description="Web pages of which origins may use the proxy from a browser, * for all.",
            extra={"form": ORIGINS},
        ),
    ] = ""
    cluster: Annotated[
        str | None,
        Meta(
            description="Redis or Valkey, through which nodes share their generations.",
            extra={"form": BROKER},
        ),
    ] = None
    cluster_publish: Annotated[
        Publish,
        Meta(
            description="What the nodes share of a generation: what another asks for, or always "
            "all of it, so that it can be read when its node is gone."
        ),
    ] = "demand"
    cluster_lease: Annotated[
        Lease,
        Meta(description="After how long without a sign of life a node counts as gone."),
    ] = 6.0
    cluster_down: Annotated[
        WhenDown,
        Meta(
            description="New calls that would be shared, while the broker is away: each node makes "
            "its own, or refuses them (503)."
        ),
    ] = "local"
    cluster_patience: Annotated[
        Limit,
        Meta(
            description="How long the broker may be away before readers of what another node runs "
            "are told so."
        ),
    ] = 30.0
    cache_ttl: Annotated[
        Stay,
        Meta(
            description="How long a complete answer may answer the same request of the same tenant "
            "again, without a call; 0: not at all."
        ),
    ] = 0.0
    cache_size: Annotated[Size, Meta(description="Most that all answers kept so take.")] = 64 * (
        2**20
    )
    cache_replay_rate: Annotated[
        Rate,
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
        Switch,
        Meta(
            description="Send a span for each generation to OpenTelemetry's collector, where "
            "OTEL_EXPORTER_OTLP_ENDPOINT says. Needs the extra otel."
        ),
    ] = False
    debug: Annotated[Switch, Meta(description="Serve /debug/census: what is alive.")] = False
    insecure_open: Annotated[
        Switch,
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


SETTINGS: Mapping[str, Setting] = {
    field.name: read_off(field)
    for field in msgspec.structs.fields(Settings)
    if field.name != "gateway"
}
"""Every field of `Settings` that has a value of its own, by name, in the order of the class."""
