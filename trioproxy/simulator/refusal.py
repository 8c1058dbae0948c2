"""Errors as the OpenAI API tells them (https://platform.openai.com/docs/guides/error-codes)."""

from collections.abc import Mapping

from trioproxy.wire import OPENAI_COMPLETIONS, Failure


class Refusal(Exception):
    """A request that is answered with an HTTP error status.

    Attributes:
        status: the HTTP status, 400 to 599.
        body: the error as OpenAI's JSON; the message is the exception's own.
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
        self.status = status
        self.body = error_json(status, message, param=param, code=code)
        self.headers = headers or {}


def error_json(
    status: int, message: str, *, param: str | None = None, code: str | None = None
) -> bytes:
    """Return OpenAI's error object, whose `type` follows from the status."""
    if status >= 500:
        kind = "server_error"
    else:
        kind = "rate_limit_error" if status == 429 else "invalid_request_error"
    return OPENAI_COMPLETIONS.error_body(Failure(status, kind, message, code, param))
