"""The names of all keys. Each lies in a *lane*, whose number is its tag: so all that a step has to
do with, and the mailboxes that it writes to, lies in one slot."""

from __future__ import annotations

import binascii
import hashlib
import re
import secrets
import zlib
from functools import lru_cache
from typing import Literal, NamedTuple

PATTERN = "tp:*"
"""All of them."""

SLOTS = 16384
"""Of every Redis Cluster."""

NAMED = 4096
"""Of so many generations the names of keys are kept, which each write and each read needs."""

_PUBLIC_ID = re.compile(r"gen_([0-9a-f]{32})_([0-9a-f]{16})")


class Ref(NamedTuple):
    """Which generation: the hash of its request, in hexadecimal, and its id. The id is new with
    each generation, and is not given to a second one."""

    request: str
    generation: str

    @classmethod
    def new(cls, request: str) -> Ref:
        """Another generation for a request."""
        return cls(request, secrets.token_hex(8))

    @classmethod
    def parse(cls, public_id: str) -> Ref | None:
        """The generation of this public id; None where it is not of this kind."""
        match = _PUBLIC_ID.fullmatch(public_id)
        return cls(*match.groups()) if match else None

    @property
    def public_id(self) -> str:
        """What clients know it by, at every node."""
        return f"gen_{self.request}_{self.generation}"


Use = Literal["requests", "generations", "subscribers"]
"""What of a tenant's has a limit: how often it asks, what runs for it, who reads that."""


class Account(NamedTuple):
    """What is counted of a tenant, at all nodes together."""

    tenant: str
    use: Use


class Keys(NamedTuple):
    """Of one generation: who holds its request, what it is, who is interested, its log."""

    holder: str
    meta: str
    interest: str
    log: str


def lane_of(request: str, lanes: int) -> int:
    """The lane of a request, of so many that there are: the same at all nodes."""
    return zlib.crc32(request.encode()) % lanes


@lru_cache(maxsize=NAMED)
def keys_of(ref: Ref, lane: int = 0) -> Keys:
    """The keys of a generation."""
    of_request = f"tp:{{{lane}}}:{ref.request}"
    own = f"{of_request}:{ref.generation}"
    return Keys(f"{of_request}:rk", f"{own}:m", f"{own}:s", f"{own}:l")


def alias_of(alias: str, lane: int = 0) -> str:
    """The key that tells which generation has this name besides its id."""
    return f"tp:{{{lane}}}:a:{_digest(alias)}"


def mailbox_of(node: str, lane: int = 0) -> str:
    """The key of a node's mailbox, of which it has one in each lane."""
    return f"tp:{{{lane}}}:n:{node}:ctl"


def epoch_of(lane: int = 0) -> str:
    """The key that tells when this life of the broker's memory began."""
    return f"tp:{{{lane}}}:epoch"


def nodes_of(lane: int = 0) -> str:
    """The key that tells which nodes live, and until when if they are not heard of again."""
    return f"tp:{{{lane}}}:nodes"


def survey_of(ref: Ref, lane: int = 0) -> str:
    """The key of what is asked of nodes, and of their answers."""
    return f"tp:{{{lane}}}:q:{ref.generation}"


def slot_of(lane: int) -> int:
    """The slot of a Redis Cluster in which the keys of a lane lie
    (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags)."""
    return binascii.crc_hqx(str(lane).encode(), 0) % SLOTS


def account_of(account: Account, kind: str, lane: int = 0) -> str:
    """The key of what is counted, in one of the ways to count."""
    return f"tp:{{{lane}}}:t:{_digest(account.tenant)}:{account.use}:{kind}"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]
