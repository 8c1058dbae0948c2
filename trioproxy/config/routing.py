"""What the file tells of engines: where they are, and which of them answers for which model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from trioproxy.config.naming import HeaderName, HeaderValue, Key, Name, Path

_Seconds = Annotated[float, Meta(gt=0)]
_Model = Annotated[str, Meta(min_length=1)]


class UpstreamEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[[upstream]]`: an engine. What is not said of it is as `[limits]` and `[server]` say.

    Attributes:
        key: sent in place of the client's credentials; or `key_env`, the environment variable that
            has it.
        forward_credentials: whether it gets the client's own, where there is no `key` and there are
            no tenants.
        headers: sent with each call, in place of the client's of the same names.
        max_calls: calls that it gets at a time. `max_queue` more wait for one to end.
        health: the path that is asked each `health_interval` seconds: one that answers with an
            error, or not, gets no calls.
        breaker_failures: after so many in a row it gets no calls for `breaker_seconds`, then one,
            to see.
    """

    name: Name
    url: str
    key: Key | None = None
    key_env: Annotated[str, Meta(min_length=1)] | None = None
    forward_credentials: bool = False
    headers: Mapping[HeaderName, HeaderValue] = {}
    connect_timeout: _Seconds | None = None
    first_token_timeout: _Seconds | None = None
    inter_token_timeout: _Seconds | None = None
    max_calls: Annotated[int, Meta(ge=1)] | None = None
    max_queue: Annotated[int, Meta(ge=0)] = 100
    health: Path | None = None
    health_interval: Annotated[float, Meta(ge=0.1)] = 10.0
    breaker_failures: Annotated[int, Meta(ge=1)] | None = 5
    breaker_seconds: _Seconds = 10.0

    @property
    def shown(self) -> dict[str, object]:
        """What may be shown of it: secrets, which headers often are, are masked."""
        fields = msgspec.structs.asdict(self).items()
        shown: dict[str, object] = {
            name: value for name, value in fields if value is not None and value != {}
        }
        if self.key is not None:
            shown["key"] = "***"
        if self.headers:
            shown["headers"] = dict.fromkeys(self.headers, "***")
        if self.key_env is not None:
            shown.pop("key", None)  # it is read from there
        return shown

    def __repr__(self) -> str:
        return (
            f"UpstreamEntry({', '.join(f'{key}={value!r}' for key, value in self.shown.items())})"
        )


class TargetEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a route leads: an upstream, how often it is the first to be asked beside the others (0:
    only if these cannot answer), and what it calls the model, if that is another name."""

    upstream: Name
    weight: Annotated[float, Meta(ge=0, le=1e6)] = 1.0
    model: _Model | None = None


class RouteEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[[route]]`: the models that it is for, and where they are had. Of the routes that match
    the first counts.

    Attributes:
        model: a pattern, in which `*` stands for anything, and `?` for one character.
        retries: so many calls may follow one that failed before its first event.
    """

    model: _Model
    to: Annotated[tuple[TargetEntry, ...], Meta(min_length=1)]
    retries: Annotated[int, Meta(ge=0, le=10)] = 2
