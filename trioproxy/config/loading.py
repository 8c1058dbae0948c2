"""Where settings come from: the command line, the environment, a TOML file, checked one by one."""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from trioproxy.config.settings import PREFIX, SETTINGS, Setting, Settings, variable_of

_CONFIG_VARIABLE = "TRIOPROXY_CONFIG"
_SERVICE_VARIABLE = re.compile(r"TRIOPROXY_(SERVICE_HOST|SERVICE_PORT|PORT)(_[A-Z0-9_]+)?")
"""What Kubernetes tells each container of a Service that is named trioproxy; no setting of ours."""

_NEEDS = {"certfile": "keyfile", "keyfile": "certfile", "upstream_key": "upstream"}
"""Settings that mean nothing without another."""


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
        if not variable.startswith(PREFIX) or variable == _CONFIG_VARIABLE:
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
