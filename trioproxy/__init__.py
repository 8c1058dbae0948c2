"""A streaming proxy for language models, in Trio: one call, many readers, no leaked task."""

__version__ = "0.1.0"
