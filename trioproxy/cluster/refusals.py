"""What a broker says when it does not do what it was asked, in the words of this package."""

from __future__ import annotations

from coredis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ConnectionError,
    ReadOnlyError,
    ResponseError,
    StalePrimaryError,
    TryAgainError,
)

from trioproxy.cluster.errors import BrokerDown, BrokerError, BrokerFull, BrokerRefused

FULL = "OOM"

NOT_NOW = ("BUSY", "MASTERDOWN", "MISCONF", "NOREPLICAS")
"""How replies begin of a broker that cannot write at present."""


class NotPrimary(BrokerDown):
    """It is a replica (now): another connection may find the primary."""


def translated(error: Exception) -> BrokerError:
    """The error of this package that tells the same."""
    match error:
        case ReadOnlyError() | StalePrimaryError():
            return NotPrimary(str(error))
        case ClusterDownError() | TryAgainError():
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
