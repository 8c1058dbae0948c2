"""Where settings come from: the command line, the environment, a TOML file, checked one by one."""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from trioproxy.config.checking import Mistake, check_gateway
from trioproxy.config.gateway import Gateway
from trioproxy.config.naming import EXPECTED
from trioproxy.config.setting import PREFIX, WORKER_VARIABLE, Setting, variable_of
from trioproxy.config.settings import SETTINGS, Settings

_CONFIG_VARIABLE = "TRIOPROXY_CONFIG"
_SERVICE_VARIABLE = re.compile(r"TRIOPROXY_(SERVICE_HOST|SERVICE_PORT|PORT)(_[A-Z0-9_]+)?")
"""What Kubernetes tells each container of a Service that is named trioproxy; no setting of ours."""

_NEEDS = {"certfile": "keyfile", "keyfile": "certfile", "upstream_key": "upstream"}
"""Settings that mean nothing without another."""


TOO_OPEN = (
    "can be reached by others, and anybody could use the engine: configure a [[tenant]], or say "
    "--insecure-open"
)
"""What is to be said of an address that :meth:`Settings.may_listen_on` refuses."""

_TABLES = {
    table: {each.key: each for each in SETTINGS.values() if each.table == table}
    for table in ("server", "limits", "cache", "cluster", "cors")
}
"""The tables of a file, and what may stand in each."""

_COMMA_SEPARATED = {"bind", "trusted_proxies", "cors_origins"}
"""What may be a list in the file."""

_LISTS = {"upstream": "upstreams", "route": "routes", "tenant": "tenants"}
"""Tables of which there may be many, and the fields of `Gateway` that they fill."""


class ConfigError(ValueError):
    """A setting is unknown, wrong, or impossible beside another. The message is one line."""


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
            raise ConfigError(
                f"{_CONFIG_VARIABLE}: expected {SETTINGS['certfile'].form.expected}, got ''"
            )
        file = Path(environ[_CONFIG_VARIABLE])
    tables = {} if file is None else _parse_toml(file)
    lists = {name: tables.pop(name) for name in _LISTS if name in tables}
    gateway = _read_gateway(file, lists, environ)
    given = [*_from_file(file, tables), *_from_environ(environ), *_from_flags(flags)]
    values = {each.setting.name: _read_value(each) for each in given}
    spellings = {each.setting.name: each.spelling for each in given}
    for name, needed in _NEEDS.items():
        if values.get(name) is not None and values.get(needed) is None:
            raise ConfigError(f"{spellings[name]}: expected {needed} to be set as well")
    if gateway.upstreams and values.get("upstream") is not None:
        raise ConfigError(f"{spellings['upstream']}: expected no [[upstream]] beside it")
    settings = Settings(**values, gateway=gateway)
    for address in settings.binds:
        if not settings.may_listen_on(address):
            raise ConfigError(f"{spellings['bind']}: {address} {TOO_OPEN}")
    return settings


def _read_gateway(
    file: Path | None, tables: Mapping[str, object], environ: Mapping[str, str]
) -> Gateway:
    entries = {_LISTS[name]: value for name, value in tables.items()}
    try:
        return check_gateway(msgspec.convert(entries, Gateway), environ)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}: {_told(error)}") from None
    except Mistake as error:
        raise ConfigError(f"{file}: {error}") from None


def _told(error: msgspec.ValidationError) -> str:
    """What msgspec says, as "tenant[0].name: what is wrong"."""
    message, _, where = str(error).partition(" - at ")
    path = where.removeprefix("`key` in ").removeprefix("`$.")  # a key of a table within it
    lists = {field: name for name, field in _LISTS.items()}
    place = re.sub(r"^\w+", lambda found: lists.get(found[0], found[0]), path.rstrip("`"))
    expected = [told for pattern, told in EXPECTED.items() if repr(pattern) in message]
    if expected:
        message = f"expected {expected[0]}"
    elif place in _LISTS:
        message = f"expected one table or more, as in [[{place}]]"
    return f"{place}: {message[:1].lower()}{message[1:]}".replace("\n", " ")


def _from_file(file: Path | None, tables: Mapping[str, Any]) -> Iterator[_Given]:
    for table, entries in tables.items():
        if table not in _TABLES:
            raise ConfigError(f"{file}: {_misplaced(table)}")
        if not isinstance(entries, dict):
            raise ConfigError(f"{file}: {table}: expected a table, as in [{table}]")
        for key, value in cast("dict[str, object]", entries).items():
            setting = _TABLES[table].get(key)
            if setting is None:
                raise ConfigError(f"{file}: {_misplaced(key, table)}")
            if isinstance(value, list) and setting.name in _COMMA_SEPARATED:
                value = ",".join(map(str, cast("list[object]", value)))
            yield _Given(setting, f"{file}: {table}.{key}", value, is_text=False)


def _misplaced(key: str, table: str | None = None) -> str:
    """What is to be said of a key that stands where it has no meaning."""
    where = f"unknown setting {key!r}" + (f" in [{table}]" if table else "")
    for name, settings in _TABLES.items():
        if key in settings:
            return f"{where}: it belongs into [{name}]"
        if key in SETTINGS and SETTINGS[key].table == name:
            return f"{where}: it is {SETTINGS[key].key!r} in [{name}]"
    close = get_close_matches(key, _TABLES.get(table or "", {*_TABLES, *_LISTS}), n=1)
    if table is None and not close:
        close = get_close_matches(key, SETTINGS, n=1)
    return where + (f" (did you mean {close[0]!r}?)" if close else "")


def _parse_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: expected text in UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{file}: nested too deeply") from None
    except ValueError as error:
        # tomllib says "What is wrong (at line 3, column 9)": the place belongs in front.
        message = re.sub(r"(.*) \(at (.*)\)", r"\2: \1", str(error), flags=re.DOTALL)
        raise ConfigError(f"{file}: {message}") from None


def _from_environ(environ: Mapping[str, str]) -> Iterator[_Given]:
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable in (_CONFIG_VARIABLE, WORKER_VARIABLE):
            continue
        if _SERVICE_VARIABLE.fullmatch(variable):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in SETTINGS or variable != variable_of(name):
            raise ConfigError(f"{variable}: unknown setting{_did_you_mean(name, variable_of)}")
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
        if isinstance(value, str):
            value.encode()  # bytes that are no UTF-8 come as surrogates, which cannot be shown
            value = setting.form.parse(value) if setting.form.parse is not None else value
        return msgspec.convert(value, setting.type, strict=not given.is_text)
    except ValueError:
        got = "" if setting.form.secret else f", got {_shown(given.value)}"
        raise ConfigError(f"{given.spelling}: expected {setting.form.expected}{got}") from None


def _shown(value: object) -> str:
    # What was meant as a URL may hold a password before its @, or a key after its ?.
    text = re.sub(r".*@|(?<=[?#]).+", "***", str(value), flags=re.DOTALL)
    return repr(text) if isinstance(value, str) else text
