"""The gateway's jobs: who may call, how much, and what need not be asked again."""

from trioproxy.gateway.answers import Answers, KeptAnswer
from trioproxy.gateway.tenants import Forbidden, Tenant, Tenants, Unauthorized, hash_key, make_key

__all__ = [
    "Answers",
    "Forbidden",
    "KeptAnswer",
    "Tenant",
    "Tenants",
    "Unauthorized",
    "hash_key",
    "make_key",
]
