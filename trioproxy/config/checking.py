"""What no table can tell of itself: whether the tables of a file go together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec

from trioproxy.config.forms import URL, parse_url
from trioproxy.config.gateway import Gateway
from trioproxy.config.naming import KEY_EXPECTED, Key
from trioproxy.config.routing import UpstreamEntry
from trioproxy.wire import CREDENTIALS

NOT_SET = {
    *("host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer"),
    *("upgrade", "expect", "accept-encoding"),
}
"""Headers by which a message, or its way, is described."""


class Mistake(ValueError):
    """The tables do not go together; the message begins with the place."""


def check_gateway(gateway: Gateway, environ: Mapping[str, str]) -> Gateway:
    """The gateway with the keys that its tables say are in the environment. Raises
    :class:`Mistake`."""
    for table, entries in (("tenant", gateway.tenants), ("upstream", gateway.upstreams)):
        for name, number in Counter(entry.name for entry in entries).items():
            if number > 1:
                raise Mistake(f"{table}: there are two of the name {name!r}")
    keys = set[str]()
    for tenant in gateway.tenants:
        if keys & {*tenant.keys}:
            raise Mistake(f"tenant: a key of {tenant.name!r} is another's too")
        keys.update(tenant.keys)
    upstreams = tuple(
        _check_upstream(f"upstream[{number}]", upstream, environ)
        for number, upstream in enumerate(gateway.upstreams)
    )
    for mistake in _mistakes_in_routes(gateway):
        raise mistake
    return msgspec.structs.replace(gateway, upstreams=upstreams)


def _check_upstream(
    place: str, upstream: UpstreamEntry, environ: Mapping[str, str]
) -> UpstreamEntry:
    try:
        url = parse_url(upstream.url)
    except ValueError:
        raise Mistake(f"{place}.url: expected {URL.expected}") from None
    key = upstream.key
    if upstream.key_env is not None:
        if key is not None:
            raise Mistake(f"{place}.key_env: there is a key already")
        if upstream.key_env not in environ:
            raise Mistake(f"{place}.key_env: {upstream.key_env} is not in the environment")
        try:
            key = msgspec.convert(environ[upstream.key_env], Key)
        except msgspec.ValidationError:
            raise Mistake(f"{place}.key_env: expected it to name {KEY_EXPECTED}") from None
    for name in upstream.headers:
        if name.lower() in NOT_SET or (key is not None and name.lower().encode() in CREDENTIALS):
            raise Mistake(f"{place}.headers: expected no {name}: that is for the proxy to say")
    return msgspec.structs.replace(upstream, url=url, key=key)


def _mistakes_in_routes(gateway: Gateway) -> Iterator[Mistake]:
    names = {upstream.name for upstream in gateway.upstreams}
    if gateway.routes and not names:
        yield Mistake("route: expected an [[upstream]] that it leads to")
    for number, route in enumerate(gateway.routes):
        place = f"route[{number}].to"
        for target, entry in enumerate(route.to):
            if entry.upstream not in names:
                told = f"there is no [[upstream]] of the name {entry.upstream!r}"
                yield Mistake(f"{place}[{target}].upstream: {told}")
        if len({entry.upstream for entry in route.to}) < len(route.to):
            yield Mistake(f"{place}: an upstream is in it twice")
