"""The broker that nodes share: its contract, on a fake, on Valkey and on Redis."""
