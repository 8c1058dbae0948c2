"""How values are written: what an error expects, how text is read, and what is too much."""

import re
import sys
from collections.abc import Callable
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from msgspec import Meta

from trioproxy.config.addresses import parse_binds, parse_proxies
from trioproxy.config.naming import KEY_EXPECTED


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
    import httpx  # it calls them, and knows more of hosts; imported late, as it takes its time

    try:
        httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError(text) from error
    return text.rstrip("/")


def _parse_broker(text: str) -> str:
    if not text.isprintable() or not re.match(r"(redis|valkey)s?://[^/?#]", text):
        raise ValueError(text)
    return text


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


LIMIT = Form("SECONDS", "a number of seconds > 0, or inf")
BEAT = Form("SECONDS", "a number of seconds >= 0.1, or inf")
DELAY = Form("SECONDS", "a number of seconds >= 0, or inf")
STAY = Form("SECONDS", "a number of seconds >= 0")
LEASE = Form("SECONDS", "a number of seconds from 0.5 to 300")
RATE = Form("NUMBER", "a number > 0, or inf")
SIZE = Form("SIZE", "a size >= 1 byte, such as 65536, 512kB or 16MiB", _parse_size)
COUNT = Form("NUMBER", "a whole number >= 1")
BOUND = Form("NUMBER", "a number >= 1, or inf")
SWITCH = Form("BOOLEAN", "true or false")
BINDS = Form(
    "ADDRESSES",
    "addresses such as 127.0.0.1:9010 and unix:/run/proxy.sock, separated by commas",
    parse_binds,
)
PROXIES = Form(
    "NETWORKS", "addresses such as 10.0.0.0/8, separated by commas, or unix", parse_proxies
)
URL = Form("URL", "an http(s) URL with a host, and no user, query or fragment", parse_url)
ORIGINS = Form(
    "ORIGINS", "origins such as https://app.example, separated by commas, or *", _parse_origins
)
BROKER = Form(
    "URL",
    "the URL of a broker, such as redis://127.0.0.1:6379/0 or valkeys://user:password@host",
    _parse_broker,
    secret=True,
)
KEY = Form("KEY", KEY_EXPECTED, secret=True)
PATH = Form("FILE", "a file name")

# inf switches a limit or a delay off. What keeps a generation in memory must end some day.
Limit = Annotated[float, Meta(gt=0, extra={"form": LIMIT})]
# Hearts that beat faster than tokens can be taken would leave no time for a token.
Beat = Annotated[float, Meta(ge=0.1, extra={"form": BEAT})]
Delay = Annotated[float, Meta(ge=0, extra={"form": DELAY})]
Stay = Annotated[float, Meta(ge=0, le=sys.float_info.max, extra={"form": STAY})]
Lease = Annotated[float, Meta(ge=0.5, le=300, extra={"form": LEASE})]
Rate = Annotated[float, Meta(gt=0, extra={"form": RATE})]
Size = Annotated[int, Meta(ge=1, extra={"form": SIZE})]
Count = Annotated[int, Meta(ge=1, extra={"form": COUNT})]
Bound = Annotated[float, Meta(ge=1, extra={"form": BOUND})]
Path = Annotated[Annotated[str, Meta(min_length=1)] | None, Meta(extra={"form": PATH})]
Switch = Annotated[bool, Meta(extra={"form": SWITCH})]
