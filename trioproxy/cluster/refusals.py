"""What a broker says when it does not do what it was asked, in the words of this package."""

from __future__ import annotations

from coredis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ConnectionError,
    MovedError,
    ReadOnlyError,
    ResponseError,
    StalePrimaryError,
    TryAgainError,
    UnblockedError,
)

from trioproxy.cluster.errors import BrokerDown, BrokerError, BrokerFull, BrokerRefused

FULL = "OOM"

NOT_NOW = ("BUSY", "MASTERDOWN", "MISCONF", "NOREPLICAS")
"""How replies begin of a broker that cannot write at present."""


class NotPrimary(BrokerDown):
    """It is a replica (now), or has the keys no more: another connection may find who has them."""


def translated(error: Exception) -> BrokerError:
    """The error of this package that tells the same."""
    match error:
        case MovedError():
            return NotPrimary(f"a Redis Cluster has the keys at {error.node_addr[0]}:{error.port}")
        case ReadOnlyError() | StalePrimaryError() | UnblockedError() | ClusterDownError():
            return NotPrimary(str(error))
        case AskError() | TryAgainError():  # while a slot is moved
            return BrokerDown(str(error))
        case AuthenticationError() | AuthorizationError():
            return BrokerRefused(str(error))
        case ResponseError() if str(error).startswith(FULL):
            return BrokerFull(str(error))
        case ResponseError() if str(error).startswith(NOT_NOW):
            return BrokerDown(str(error))
        case ConnectionError() | OSError():
            return BrokerDown(str(error))
        case _:
            return BrokerRefused(f"{type(error).__name__}: {error}")


def first_of(errors: BaseExceptionGroup[Exception]) -> Exception:
    """The first error of a group, however deep."""
    first = errors.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first
