"""One setting: how it is written on the command line, in the environment and in a file."""

from typing import Any, NamedTuple, get_args

import msgspec
from msgspec import Meta

from trioproxy.config.forms import SWITCH, Form

PREFIX = "TRIOPROXY_"


WORKER_VARIABLE = PREFIX + "WORKER"
"""What a supervisor tells its workers in the environment, and no setting."""


def variable_of(name: str) -> str:
    """How the setting with this name is written in the environment."""
    return PREFIX + name.upper()


_OWN_TABLES = ("cors", "cache", "cluster")
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
        if self.name == self.table:
            return "url"
        return self.name.removeprefix(f"{self.table}_") if self.table in _OWN_TABLES else self.name

    @property
    def is_switch(self) -> bool:
        """Whether its values are true and false."""
        return self.form is SWITCH


def read_off(field: msgspec.structs.FieldInfo) -> Setting:
    """What the annotation of a field says of it."""
    metas = [meta for meta in field.type.__metadata__ if isinstance(meta, Meta)]
    described = {key: value for meta in metas for key, value in (meta.extra or {}).items()}
    choices = [str(choice) for choice in get_args(field.type.__origin__)]
    form = described.get("form") or Form("|".join(choices), "one of " + ", ".join(choices))
    return Setting(field.name, metas[-1].description or "", field.default, field.type, form)
