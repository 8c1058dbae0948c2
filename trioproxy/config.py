"""Every setting of the proxy, in one typed place, and the three places it may be given in.

`Settings` is the whole of it: a field's annotation holds its description, its unit and its bounds,
and nothing else repeats them. `SETTINGS` is the table read off those fields; the command line's
options and their help are generated from it.

A setting called `write_timeout` is written `--write-timeout` on the command line,
`TRIOPROXY_WRITE_TIMEOUT` in the environment, and `write_timeout = 30` at the top level of a TOML
file. The command line wins over the environment, the environment over the file, the file over the
default. Every value that is given is checked, also one that another overrides, and an error names
the setting as its author wrote it.
"""

import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

__all__ = [
    "SETTINGS",
    "Coalesce",
    "ConfigError",
    "Setting",
    "Settings",
    "load_settings",
    "parse_address",
]

_PREFIX = "TRIOPROXY_"
_CONFIG_VARIABLE = "TRIOPROXY_CONFIG"
_SERVICE_VARIABLE = re.compile(r"TRIOPROXY_(SERVICE_HOST|SERVICE_PORT|PORT)(_[A-Z0-9_]+)?")
"""What Kubernetes tells each container of a Service that is named trioproxy; no setting of ours."""


def _variable(name: str) -> str:
    return _PREFIX + name.upper()


class ConfigError(ValueError):
    """A setting is unknown, wrong, or impossible beside another. The message is one line."""


def parse_address(text: str) -> str:
    """Check `host:port` (IPv6 in brackets, port 0 to 65535) and return it. Raises `ValueError`."""
    label = r"[A-Za-z0-9_-]{1,63}"
    address = re.fullmatch(rf"(?:{label}(?:\.{label})*|\[[0-9A-Fa-f:.]+\]):([0-9]{{1,5}})", text)
    if address is None or int(address[1]) > 65_535:
        raise ValueError(text)
    return text


def _parse_url(text: str) -> str:
    # urlsplit drops tabs and newlines in silence, so they are looked for before it.
    if not text.isprintable() or re.search(r"[\s?#]", text):
        raise ValueError(text)
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname or url.port == 0:
        raise ValueError(text)
    if "@" in url.netloc:  # The URL is printed and logged: a password has no place in it.
        raise ValueError(text)
    return text.rstrip("/")


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
_SIZE = Form("SIZE", "a size >= 1 byte, such as 65536, 512kB or 16MiB", _parse_size)
_COUNT = Form("NUMBER", "a whole number >= 1")
_SWITCH = Form("BOOLEAN", "true or false")
_ADDRESS = Form("HOST:PORT", "an address such as 127.0.0.1:9010", parse_address)
_URL = Form("URL", "an http(s) URL with a host, and no user, query or fragment", _parse_url)
_KEY = Form("KEY", "visible ASCII characters without a space", secret=True)
_PATH = Form("FILE", "a file name")

# inf switches a limit or a delay off. What keeps a generation in memory must end some day.
_Limit = Annotated[float, Meta(gt=0, extra={"form": _LIMIT})]
# Hearts that beat faster than tokens can be taken would leave no time for a token.
_Beat = Annotated[float, Meta(ge=0.1, extra={"form": _BEAT})]
_Delay = Annotated[float, Meta(ge=0, extra={"form": _DELAY})]
_Stay = Annotated[float, Meta(ge=0, le=sys.float_info.max, extra={"form": _STAY})]
_Size = Annotated[int, Meta(ge=1, extra={"form": _SIZE})]
_Count = Annotated[int, Meta(ge=1, extra={"form": _COUNT})]
_Path = Annotated[Annotated[str, Meta(min_length=1)] | None, Meta(extra={"form": _PATH})]
# A key becomes a header's value: the newline that ends a file would break the request.
_Key = Annotated[str, Meta(pattern=r"^[!-~]+\Z")]
_Switch = Annotated[bool, Meta(extra={"form": _SWITCH})]


Coalesce = Literal["explicit", "identical", "off"]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an operator can choose. Times are in seconds, sizes in bytes; `repr` masks the secret.

    Built directly, the values are taken as they are; `load_settings` is what checks them.
    """

    bind: Annotated[
        str, Meta(description="Address to listen on; port 0 picks one.", extra={"form": _ADDRESS})
    ] = "127.0.0.1:9010"
    certfile: Annotated[
        _Path, Meta(description="Certificate chain (PEM) to serve TLS with; needs keyfile.")
    ] = None
    keyfile: Annotated[_Path, Meta(description="Private key (PEM) of certfile.")] = None
    upstream: Annotated[
        str | None,
        Meta(
            description="The engine to call; a path is a prefix. Without it, a simulated engine.",
            extra={"form": _URL},
        ),
    ] = None
    upstream_key: Annotated[
        _Key | None,
        Meta(
            description="API key sent upstream, as a bearer, in place of the client's credentials. "
            "A command line can be read by others: prefer the environment.",
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
    commit_after: Annotated[
        _Delay, Meta(description="Silence of the upstream before the client is answered 200.")
    ] = 10.0
    connect_timeout: Annotated[_Limit, Meta(description="Longest wait to connect upstream.")] = 5.0
    first_token_timeout: Annotated[
        _Limit, Meta(description="Longest wait for the upstream's first event.")
    ] = 600.0
    inter_token_timeout: Annotated[
        _Limit, Meta(description="Longest wait between two of its events.")
    ] = 120.0
    body_timeout: Annotated[_Limit, Meta(description="Longest wait for a whole body.")] = 30.0
    drain: Annotated[
        _Delay, Meta(description="What running generations get to finish in at shutdown.")
    ] = 30.0
    max_body: Annotated[_Size, Meta(description="Largest request body.")] = 8 * 2**20
    max_event: Annotated[_Size, Meta(description="Largest event of the upstream.")] = 2**20
    max_transcript: Annotated[_Size, Meta(description="Largest transcript.")] = 16 * 2**20
    max_hub: Annotated[
        _Size, Meta(description="Most that all transcripts hold; the oldest ended ones go first.")
    ] = 512 * 2**20
    max_subscribers: Annotated[_Count, Meta(description="Most readers of a generation.")] = 10_000
    max_generations: Annotated[_Count, Meta(description="Most running for a tenant.")] = 1_000
    debug: Annotated[_Switch, Meta(description="Serve /debug/census: what is alive.")] = False

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        shown = msgspec.structs.asdict(self)
        masked = {name: "***" for name in shown if SETTINGS[name].form.secret and shown[name]}
        return list((shown | masked).items())

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


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
        return _variable(self.name)

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
    field.name: _read_off(field) for field in msgspec.structs.fields(Settings)
}
"""Every field of `Settings`, by name, in the order of the class."""

_NEEDS = {"certfile": "keyfile", "keyfile": "certfile", "upstream_key": "upstream"}
"""Settings that mean nothing without another."""


class _Given(NamedTuple):
    """A setting that somebody gave: as they wrote its name, and whether the value is bare text."""

    setting: Setting
    spelling: str
    value: object
    is_text: bool


def load_settings(
    *, flags: Mapping[str, str | None], environ: Mapping[str, str], file: Path | None
) -> Settings:
    """The settings that the command line, the environment and a TOML file give together.

    `flags` maps names of settings to text, None where the flag was not given. From `environ` all
    `TRIOPROXY_*` variables are read; `TRIOPROXY_CONFIG` names the TOML file unless `file` does.

    Raises `ConfigError` for the first thing wrong: a file that cannot be read or parsed, an unknown
    setting, a wrong value, or one given without the other that it needs.
    """
    if file is None and _CONFIG_VARIABLE in environ:
        if not environ[_CONFIG_VARIABLE]:
            raise ConfigError(f"{_CONFIG_VARIABLE}: expected {_PATH.expected}, got ''")
        file = Path(environ[_CONFIG_VARIABLE])
    given = [*_from_file(file), *_from_environ(environ), *_from_flags(flags)]
    values = {each.setting.name: _read_value(each) for each in given}
    spellings = {each.setting.name: each.spelling for each in given}
    for name, needed in _NEEDS.items():
        if values.get(name) is not None and values.get(needed) is None:
            raise ConfigError(f"{spellings[name]}: expected {needed} to be set as well")
    return Settings(**values)


def _from_file(file: Path | None) -> Iterator[_Given]:
    if file is None:
        return
    for name, value in _parse_toml(file).items():
        if isinstance(value, dict):
            raise ConfigError(
                f"{file}: {name!r} is a table; settings stand at the top level, as in linger = 5"
            )
        if name not in SETTINGS:
            raise ConfigError(f"{file}: unknown setting {name!r}{_did_you_mean(name, str)}")
        yield _Given(SETTINGS[name], f"{file}: {name}", value, is_text=False)


def _parse_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: expected text in UTF-8") from None
    except ValueError as error:
        # tomllib says "What is wrong (at line 3, column 9)": the place belongs in front.
        message = re.sub(r"(.*) \(at (.*)\)", r"\2: \1", str(error), flags=re.DOTALL)
        raise ConfigError(f"{file}: {message}") from None


def _from_environ(environ: Mapping[str, str]) -> Iterator[_Given]:
    for variable, text in environ.items():
        if not variable.startswith(_PREFIX) or variable == _CONFIG_VARIABLE:
            continue
        if _SERVICE_VARIABLE.fullmatch(variable):
            continue
        name = variable.removeprefix(_PREFIX).lower()
        if name not in SETTINGS or variable != _variable(name):
            raise ConfigError(f"{variable}: unknown setting{_did_you_mean(name, _variable)}")
        yield _Given(SETTINGS[name], variable, text, is_text=True)


def _from_flags(flags: Mapping[str, str | None]) -> Iterator[_Given]:
    for name, text in flags.items():
        if text is not None:
            yield _Given(SETTINGS[name], SETTINGS[name].flag, text, is_text=True)


def _did_you_mean(name: str, spell: Callable[[str], str]) -> str:
    close = get_close_matches(name, SETTINGS, n=1)
    return f" (did you mean {spell(close[0])!r}?)" if close else ""


def _read_value(given: _Given) -> Any:
    setting, value = given.setting, given.value
    try:
        if setting.form.parse is not None and isinstance(value, str):
            value = setting.form.parse(value)
        return msgspec.convert(value, setting.type, strict=not given.is_text)
    except ValueError:
        got = "" if setting.form.secret else f", got {_shown(given.value)}"
        raise ConfigError(f"{given.spelling}: expected {setting.form.expected}{got}") from None


def _shown(value: object) -> str:
    # What was meant as a URL may hold a password before its @, or a key after its ?.
    text = re.sub(r".*@|(?<=[?#]).+", "***", str(value), flags=re.DOTALL)
    return repr(text) if isinstance(value, str) else text
