"""Reading JSON that may be anything: what cannot be understood is None."""

from typing import TypeVar

import msgspec

_T = TypeVar("_T")

_NULL = msgspec.Raw(b"null")
_ERROR = msgspec.Raw(b'"error"')


class _Envelope(msgspec.Struct):
    error: msgspec.Raw = _NULL
    object: msgspec.Raw = _NULL


_envelopes = msgspec.json.Decoder(_Envelope)


def decode(decoder: msgspec.json.Decoder[_T], data: bytes) -> _T | None:
    """Return what the decoder makes of the data; None if it is malformed or of another shape."""
    try:
        return decoder.decode(data)
    except (ValueError, RecursionError):  # of msgspec, of UTF-8; of JSON that is nested too deeply
        return None


def tells_error(data: bytes) -> bool:
    """Return whether an engine tells an error here: JSON with a top-level "error" that is not null,
    or a top-level "object" of "error" (vLLM)."""
    # Ordinary tokens leave here, undecoded. Quotes inside a JSON string are escaped, so what passes
    # has "error" as a key or as a whole string, such as a token that is just that word. By find(),
    # because `in` first tries its operand as an integer, which costs as much again as the search.
    if data.find(b'"error"') < 0:
        return False
    envelope = decode(_envelopes, data)
    return envelope is not None and (envelope.error != _NULL or envelope.object == _ERROR)
