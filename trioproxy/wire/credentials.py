"""Where requests carry who asks."""

CREDENTIALS = frozenset({b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"})
"""Headers, in the words of the APIs that are about: OpenAI, Anthropic, Azure, Google."""
