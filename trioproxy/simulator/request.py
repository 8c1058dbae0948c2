"""What a request asks of the engine: its body, the switches in its headers, and the settings."""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from trioproxy.simulator.apis.bodies import MAX_TOKENS, Tokens, bad_request
from trioproxy.simulator.apis.protocol import Api, Breakage, GenerationRequest
from trioproxy.simulator.engine import EngineSettings
from trioproxy.simulator.refusal import Refusal

_SWITCH_PREFIX = "x-sim-"


class _Switches(
    msgspec.Struct,
    forbid_unknown_fields=True,
    rename=lambda name: _SWITCH_PREFIX + name.replace("_", "-"),
):
    fail: Literal["before", Breakage] | None = None
    rate: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    ttft: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    tokens: Tokens | None = None
    numbered: bool = True
    status: Annotated[int, Meta(ge=400, le=599)] | None = None
    retry_after: Annotated[str, Meta(pattern="^[ -~]*$")] | None = None


def parse_generation(
    api: Api, headers: Mapping[str, str], body: bytes, settings: EngineSettings
) -> GenerationRequest:
    """Return what a POST to this API asks for.

    Header names are in lower case. Raises `Refusal`: 400 for a body or a switch that cannot be
    understood, with the field or header as its `param`, and whatever the switches ask for.
    """
    asked = api.read(body)
    switches = _parse_switches(headers)
    if switches.tokens is None and asked.tokens is None and api.required_tokens is not None:
        raise Refusal(400, f"{api.required_tokens}: field required", param=api.required_tokens)
    tokens = switches.tokens or asked.tokens or settings.tokens
    if tokens * asked.choices > MAX_TOKENS:
        raise Refusal(400, f"more than {MAX_TOKENS} tokens are asked for", param="max_tokens")
    if switches.status is not None or switches.fail == "before":
        retry_after = switches.retry_after
        raise Refusal(
            switches.status or 500,
            "a failure that the request asked for",
            headers={} if retry_after is None else {"retry-after": retry_after},
        )
    return GenerationRequest(
        model=asked.model or settings.model,
        prompt="\n".join(asked.texts),
        seed=asked.seed or 0,
        choices=asked.choices,
        tokens=tokens,
        stream=asked.stream,
        include_usage=asked.include_usage,
        numbered=switches.numbered,
        rate=settings.rate if switches.rate is None else switches.rate,
        ttft=settings.ttft if switches.ttft is None else switches.ttft,
        fail=switches.fail,
    )


def last_text(api: Api, body: bytes) -> str:
    """Return the text that names a call in a record: the prompt, or the last message.

    It is "" where the body cannot be understood.
    """
    try:
        return api.read(body).texts[-1]
    except Refusal:
        return ""


def _parse_switches(headers: Mapping[str, str]) -> _Switches:
    switches = {name: value for name, value in headers.items() if name.startswith(_SWITCH_PREFIX)}
    try:
        return msgspec.convert(switches, _Switches, strict=False)
    except msgspec.ValidationError as error:
        raise bad_request(str(error)) from error
