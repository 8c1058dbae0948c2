"""Every setting of the proxy, in one typed place, and the three places it may be given in.

`Settings` is the whole of it: a field's annotation holds its description, its unit and its bounds,
and nothing else repeats them. `SETTINGS` is the table read off those fields; the command line's
options and their help are generated from it.

A setting called `write_timeout` is written `--write-timeout` on the command line,
`TRIOPROXY_WRITE_TIMEOUT` in the environment, and `write_timeout = 30` in a table of a TOML file:
`[limits]` for sizes, numbers, rates and timeouts, `[cache]`, `[cors]`, and `[server]` for the rest.
The command line wins over the environment, the environment over the file, the file over the
default. Every value that is given is checked, also one that another overrides, and an error names
the setting as its author wrote it.

What is a list is in the file alone: `[[upstream]]`, `[[route]]`, `[[tenant]]` (see `Gateway`).
"""

from trioproxy.config.addresses import UNIX, UNIX_PEERS, Network, parse_address
from trioproxy.config.describing import describe_settings
from trioproxy.config.gateway import Gateway, TenantEntry
from trioproxy.config.loading import TOO_OPEN, ConfigError, load_settings
from trioproxy.config.naming import HASHED, KEY_EXPECTED, NAME_EXPECTED, Name
from trioproxy.config.routing import RouteEntry, TargetEntry, UpstreamEntry
from trioproxy.config.setting import WORKER_VARIABLE, Setting, variable_of
from trioproxy.config.settings import SETTINGS, Coalesce, RateLimiter, Settings

__all__ = [
    "HASHED",
    "KEY_EXPECTED",
    "NAME_EXPECTED",
    "SETTINGS",
    "TOO_OPEN",
    "UNIX",
    "UNIX_PEERS",
    "WORKER_VARIABLE",
    "Coalesce",
    "ConfigError",
    "Gateway",
    "Name",
    "Network",
    "RateLimiter",
    "RouteEntry",
    "Setting",
    "Settings",
    "TargetEntry",
    "TenantEntry",
    "UpstreamEntry",
    "describe_settings",
    "load_settings",
    "parse_address",
    "variable_of",
]
