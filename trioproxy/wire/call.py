"""What the proxy reads in the body of a request: does the call stream, and on which model.

Everything else in the body is between the client and the engine and is neither checked nor kept.
"""

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
    end = body.rindex(b"}")
    members = body[:end].rstrip()
    comma = b"" if members.endswith(b"{") else b","
    return members + comma + b'"stream":true' + body[end:]


def with_model(body: bytes, model: str) -> bytes:
    """Return the body of the same call of another model. The values of all other fields are the
    bytes that came, in their order.

    For a body that `read_call` has read. Raises `BadRequest` if a field's name is not UTF-8, which
    `read_call` has no need to look at.
    """
    return _with_fields(body, model=msgspec.json.encode(model))


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
    return _with_fields(body, background=None, stream=b"true")


def _with_fields(body: bytes, **changed: bytes | None) -> bytes:
    """The same object but for these fields, of which None takes one away."""
    try:
        fields = _objects.decode(body)
    except ValueError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None
    for name, value in changed.items():
        if value is None:
            fields.pop(name, None)
        else:
            fields[name] = msgspec.Raw(value)
    return msgspec.json.encode(fields)


def _read_fields(body: bytes) -> _Fields:
    try:
        return _fields.decode(body)
    except msgspec.ValidationError:
        raise BadRequest("the body must be a JSON object") from None
    except RecursionError:
        raise BadRequest("the body's JSON is nested too deeply") from None
    except ValueError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None
