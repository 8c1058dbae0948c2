"""What a stream has told so far: how much text, what it cost, and the name of the answer."""

from trioproxy.wire.dialect import Dialect, Usage
from trioproxy.wire.sse import Message

MAX_ID_LENGTH = 200
"""So much is remembered of an answer's id. Those of the APIs are shorter."""


class Tally:
    """Counts the messages of one stream as they arrive.

    Attributes:
        text_events: the messages that carried generated text; for most engines, the tokens.
        usage: the engine's own counts, as far as it has told them; None if it has told none.
        answer_id: the id by which the API names the answer, None until it is told.
    """

    def __init__(self, dialect: Dialect) -> None:
        self.text_events = 0
        self.usage: Usage | None = None
        self.answer_id: str | None = None
        self._dialect = dialect

    def count(self, message: Message) -> None:
        """Take note of a message that has arrived. On every event's path."""
        dialect = self._dialect
        if dialect.text(message):
            self.text_events += 1
        elif self.answer_id is None:
            self.answer_id = (dialect.answer_id(message) or "")[:MAX_ID_LENGTH] or None
        if (usage := dialect.usage(message)) is not None:
            self.usage = usage if self.usage is None else self.usage.updated(usage)
