"""Settings as a file that says them: what holds, written out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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
    for tenant in settings.gateway.tenants:
        yield "[[tenant]]"
        for name, value in msgspec.structs.asdict(tenant).items():
            yield f"{name} = {_toml(value)}"
        yield ""


def _toml(value: Any) -> str:
    """A plain value. JSON's are TOML's too, but for what is no number."""
    if isinstance(value, float):
        return repr(value)
    return msgspec.json.encode(value).decode()
