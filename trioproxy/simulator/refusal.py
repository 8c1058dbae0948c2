"""What goes wrong, before an API has told it in its own words."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """An error as every API could tell it.

    Attributes:
        status: the HTTP status, 400 to 599; an error within a stream has the one that it would have
            had before it.
        message: for people; it names the field or header that is wrong.
        param: that field or header, for the APIs that tell it apart.
        code: OpenAI's short name of the error, where there is one.
    """

    status: int
    message: str
    param: str | None = None
    code: str | None = None


class Refusal(Exception):
    """A request that is answered with an HTTP error status.

    Attributes:
        failure: what the answer tells; the message is the exception's own too.
        headers: further headers of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.failure = Failure(status, message, param, code)
        self.headers = headers or {}
