"""Many processes and machines: what they tell each other, through Redis or Valkey.

This is the port and its nouns; :mod:`trioproxy.cluster.redis`, which needs the extra ``cluster``,
is what stands behind it.
"""

from trioproxy.cluster.broker import (
    MAIL_START,
    OWNER_LOST,
    Addition,
    Broker,
    Joined,
    Known,
    Lease,
    Letter,
    News,
    Restored,
    Running,
    Terms,
    Word,
)
from trioproxy.cluster.entries import (
    START,
    Batch,
    Cursor,
    Ending,
    Head,
    Part,
    batches,
)
from trioproxy.cluster.errors import (
    BrokerDown,
    BrokerError,
    BrokerFull,
    BrokerRefused,
    EntryTooLarge,
    Fenced,
    InterestLost,
    LogBehind,
    NotRunning,
    State,
)
from trioproxy.cluster.following import Followed
from trioproxy.cluster.holding import NoRoom
from trioproxy.cluster.keys import Account, Ref, Use
from trioproxy.cluster.node import Node, open_node
from trioproxy.cluster.parting import NOTICE
from trioproxy.cluster.spending import Pace, Spent
from trioproxy.cluster.surveys import Heard
from trioproxy.cluster.watching import NodeWatch

__all__ = [
    "MAIL_START",
    "NOTICE",
    "OWNER_LOST",
    "START",
    "Account",
    "Addition",
    "Batch",
    "Broker",
    "BrokerDown",
    "BrokerError",
    "BrokerFull",
    "BrokerRefused",
    "Cursor",
    "Ending",
    "EntryTooLarge",
    "Fenced",
    "Followed",
    "Head",
    "Heard",
    "InterestLost",
    "Joined",
    "Known",
    "Lease",
    "Letter",
    "LogBehind",
    "News",
    "NoRoom",
    "Node",
    "NodeWatch",
    "NotRunning",
    "Pace",
    "Part",
    "Ref",
    "Restored",
    "Running",
    "Spent",
    "State",
    "Terms",
    "Use",
    "Word",
    "batches",
    "open_node",
]
