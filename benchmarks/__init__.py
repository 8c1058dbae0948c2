"""Measurements of the proxy, each a module to run: ``python -m benchmarks.NAME``."""
