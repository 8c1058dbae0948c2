"""The gateway's jobs: who may call, and how much."""

from trioproxy.gateway.tenants import Forbidden, Tenant, Tenants, Unauthorized, hash_key, make_key

__all__ = ["Forbidden", "Tenant", "Tenants", "Unauthorized", "hash_key", "make_key"]
