"""What a client may be told: who failed, and what to do about it."""

from __future__ import annotations


class ClientError(Exception):
    """Base of every error that this package raises."""


class AttemptFailed(ClientError):
    """One connection could not be made, broke off or fell silent, or was put off by the server.

    It is repeated, so that users meet it only as the cause of what was raised when the attempts
    were used up. ``retry_after`` is how many seconds the server asked to wait, None if it did not.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ProxyUnreachable(ClientError):
    """A request was repeated as often as allowed, to no avail. The last failure is the cause."""


class StreamBroken(ProxyUnreachable):
    """A stream was taken up as often as allowed, and no event came. The last failure is the cause.

    Nothing was lost: the same stream object tries again when it is iterated again, and so does
    ``client.read(generation_id, after=seq)``, for as long as the generation is kept.
    ``generation_id`` is None where no answer ever began; ``seq`` is the last event that was
    received.
    """

    def __init__(self, attempts: int, generation_id: str | None, seq: int) -> None:
        go_on = "iterate the stream again"
        if generation_id is not None:
            go_on += f", or read({generation_id!r}, after={seq}), to go on"
        else:
            go_on += " to ask once more"
        super().__init__(
            f"the stream broke off after event {seq} and {attempts} attempts brought nothing new: "
            f"see the cause; {go_on}"
        )
        self.generation_id = generation_id
        self.seq = seq


class Refused(ClientError):
    """The server answered with an error status; the request is not repeated.

    ``status`` is the HTTP status; ``code`` the machine-readable kind where the body tells one.
    """

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.code = code


class GenerationGone(Refused):
    """There is no such generation (404), or no longer: its retention is over (410). Ask anew."""


class GenerationFailed(ClientError):
    """The generation ended without completing: all its events have been read, and there will be no
    more. Ask anew.

    ``code`` is the machine-readable kind (``"upstream_truncated"``, ``"cancelled"``, or whatever
    the API calls it), None where nobody told one; ``seq`` is the last event before the failure.
    """

    def __init__(self, message: str, code: str | None, generation_id: str | None, seq: int) -> None:
        super().__init__(f"the generation failed after event {seq}: {message}")
        self.code = code
        self.generation_id = generation_id
        self.seq = seq


class Gap(ClientError):
    """Events ``first`` to ``last``, both included, were not received and are no longer held.

    It is raised in their place, after the events before them, because to nearly every reader a text
    with a hole is no text, and because what is yielded among the events is as easily overlooked.
    Nothing has ended: iterate the stream again, and it goes on behind the gap.
    """

    def __init__(self, generation_id: str, first: int, last: int) -> None:
        super().__init__(
            f"events {first} to {last} of {generation_id} are no longer held by the proxy; "
            "iterate the stream again to go on behind them"
        )
        self.generation_id = generation_id
        self.first = first
        self.last = last


class UnexpectedAnswer(ClientError):
    """The answer is not one that a trioproxy gives. Look at the base URL, and at what stands in
    between."""
