"""Settings as a file that says them: what holds, written out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec

from trioproxy.config.settings import SETTINGS, Settings


def describe_settings(settings: Settings) -> str:
    """All of them, in TOML, table by table; secrets are masked."""
    return "\n".join(_lines(settings)).strip() + "\n"


def _lines(settings: Settings) -> Iterator[str]:
    for table in dict.fromkeys(setting.table for setting in SETTINGS.values()):
        yield f"[{table}]"
        for setting in SETTINGS.values():
            value = getattr(settings, setting.name)
            if setting.table != table:
                continue
            if value is None:
                yield f"# {setting.key} is not set"
            else:
                yield f"{setting.key} = {_toml('***' if setting.form.secret else value)}"
        yield ""
    for upstream in settings.gateway.upstreams:
        yield from _table("upstream", upstream.shown)
    for route in settings.gateway.routes:
        yield from _table("route", msgspec.structs.asdict(route))
    for tenant in settings.gateway.tenants:
        yield from _table("tenant", msgspec.structs.asdict(tenant))


def _table(name: str, fields: Mapping[str, object]) -> Iterator[str]:
    yield f"[[{name}]]"
    for key, value in fields.items():
        if value is not None:
            yield f"{key} = {_toml(value)}"
    yield ""


def _toml(value: Any) -> str:
    """A value as TOML. JSON's strings are TOML's too."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, cast("tuple[object, ...]", value))) + "]"
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, object]", value).items()
        told = [f"{_toml(key)} = {_toml(each)}" for key, each in fields if each is not None]
        return "{ " + ", ".join(told) + " }"
    return msgspec.json.encode(value).decode()
