"""The gateway's jobs: who may call, how much, and what need not be asked again."""

from trioproxy.gateway.answers import Answers, KeptAnswer
from trioproxy.gateway.quotas import Quotas
from trioproxy.gateway.rates import Allowance, Rate, RateLimited, Rates, TokenBucket
from trioproxy.gateway.tenants import Forbidden, Tenant, Tenants, Unauthorized, hash_key, make_key

__all__ = [
    "Allowance",
    "Answers",
    "Forbidden",
    "KeptAnswer",
    "Quotas",
    "Rate",
    "RateLimited",
    "Rates",
    "Tenant",
    "Tenants",
    "TokenBucket",
    "Unauthorized",
    "hash_key",
    "make_key",
]
