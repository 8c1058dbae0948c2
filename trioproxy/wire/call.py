"""What the proxy reads in the body of a request: does the call stream, and on which model.

Everything else in the body is between the client and the engine and is neither checked nor kept.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

_NULL = msgspec.Raw(b"null")
_TRUTH = {b"true": True, b"false": False, b"null": None}


class BadRequest(ValueError):
    """The body of a request cannot be read; the message, fit for the client, says what is wrong.

    `param` names the field at fault, None where it is the body itself.
    """

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Call:
    """The fields of a request body that decide how it is served; None where absent or null."""

    stream: bool | None
    model: str | None


class _Fields(msgspec.Struct):
    # Raw, so that each field's fault is told by name and in the API's own terms.
    stream: msgspec.Raw = _NULL
    model: msgspec.Raw = _NULL
    background: msgspec.Raw = _NULL


# It tells where a value ends, and msgspec does not. Numbers are not read: some have no end.
_decoder = json.JSONDecoder(parse_int=str, parse_float=str, strict=False)
_fields = msgspec.json.Decoder(_Fields)
_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])
_model = msgspec.json.Decoder(str | None)


def read_call(body: bytes) -> Call:
    """Read the call in a request body, a JSON object (RFC 8259).

    Of a repeated field the last counts. Raises `BadRequest` if the body is not JSON or not an
    object, if `stream` is neither a boolean nor null, or if `model` is neither a string nor null.
    """
    fields = _read_fields(body)
    try:
        stream = _TRUTH[bytes(fields.stream)]
    except KeyError:
        raise BadRequest("'stream' must be true, false or null", "stream") from None
    try:
        model = _model.decode(fields.model)
    except ValueError:
        raise BadRequest("'model' must be a string or null", "model") from None
    return Call(stream, model)


def with_stream(body: bytes) -> bytes:
    """Return the request body with `"stream": true` spliced in, every other byte as it was.

    For a body that `read_call` has read and found to say nothing, or null, of `stream`: of a
    repeated field the last counts, so the field is put at the end.
    """
    return _with_member(body, b'"stream":true')


def with_model(body: bytes, model: str) -> bytes:
    """Return the request body with another value of `model`, every other byte as it was: wherever
    the object says it, and at the end where it does not.

    For a body that `read_call` has read. Raises `BadRequest` for one that is nested too deeply.
    """
    # Of structure and the name all is ASCII; what else may be in strings is none of our business.
    text, value = body.decode("latin-1"), msgspec.json.encode(model)
    pieces, copied = list[bytes](), 0
    try:
        for name, start, end in _members(text):
            if name == "model":
                pieces += [body[copied:start], value]
                copied = end
    except RecursionError:
        raise BadRequest("the body's JSON is nested too deeply") from None
    if not pieces:
        return _with_member(body, b'"model":' + value)
    return b"".join([*pieces, body[copied:]])


def _members(text: str) -> Iterator[tuple[str, int, int]]:
    """The members of a valid JSON object: the name, and where the value begins and ends."""
    at = _skip_blanks(text, text.index("{") + 1)
    while text[at] != "}":
        name, at = _decoder.raw_decode(text, at)
        start = _skip_blanks(text, text.index(":", at) + 1)
        _, end = _decoder.raw_decode(text, start)
        yield name, start, end
        at = _skip_blanks(text, end)
        if text[at] == ",":
            at = _skip_blanks(text, at + 1)


def _skip_blanks(text: str, at: int) -> int:
    while text[at] in " \t\n\r":
        at += 1
    return at


def wants_background(body: bytes) -> bool:
    """Return whether a call of the Responses API is to outlive its client (`"background": true`).

    Raises `BadRequest` as `read_call` does, and if the field is neither a boolean nor null.
    """
    try:
        return _TRUTH[bytes(_read_fields(body).background)] is True
    except KeyError:
        raise BadRequest("'background' must be true, false or null", "background") from None


def in_foreground(body: bytes) -> bytes:
    """Return the body of the call that does for the engine what a call in the background asks for:
    one that streams. The values of all other fields are the bytes that came.

    For a body that `read_call` has read. Raises `BadRequest` if a field's name is not UTF-8, which
    `read_call` has no need to look at.
    """
    try:
        fields = _objects.decode(body)
    except ValueError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None
    fields.pop("background", None)
    fields["stream"] = msgspec.Raw(b"true")
    return msgspec.json.encode(fields)


def _with_member(body: bytes, member: bytes) -> bytes:
    """A valid JSON object with one more member, at its end."""
    end = body.rindex(b"}")
    members = body[:end].rstrip()
    comma = b"" if members.endswith(b"{") else b","
    return members + comma + member + body[end:]


def _read_fields(body: bytes) -> _Fields:
    try:
        return _fields.decode(body)
    except msgspec.ValidationError:
        raise BadRequest("the body must be a JSON object") from None
    except RecursionError:
        raise BadRequest("the body's JSON is nested too deeply") from None
    except ValueError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None
