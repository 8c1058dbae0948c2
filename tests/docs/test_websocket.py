"""The chapter on WebSockets shows every message as it is, and tells the limits that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast, get_args

import msgspec

from tests.docs.examples import DOCS, examples_of, run
from tests.e2e.commands import Proxy
from tests.web.service import (
    COMPLETIONS,
    HALF_OF_EIGHT_THEN_SILENCE,
    SimulatedService,
    open_simulated,
)
from tests.web.sockets import open_socket
from trioproxy.fanout import Evicted, Gap
from trioproxy.simulator import generate_text
from trioproxy.web import messages
from trioproxy.web.failures import failure_of_end
from trioproxy.web.session import MESSAGES_AT_ONCE, MESSAGES_PER_SECOND, CloseCode
from trioproxy.web.sockets import SUBPROTOCOL

CHAPTER = (DOCS / "websocket.md").read_text()
EXAMPLES = examples_of("websocket.md")
GENERATE: dict[str, Any] = {
    "type": "generate",
    "path": COMPLETIONS,
    "body": {"prompt": "The river"},
}
MESSAGE_TOO_BIG = 1009


def shown(name: str) -> list[dict[str, Any]]:
    """The messages of a block, which has one in each line."""
    return [json.loads(line) for line in EXAMPLES[name].text.splitlines()]


def shape_of(value: Any) -> Any:
    """The fields of a message at every depth, without their values."""
    if not isinstance(value, dict):
        return None
    fields = cast("dict[str, Any]", value)
    return {name: shape_of(field) for name, field in fields.items() if name != "ref"}


async def hear_everything(service: SimulatedService) -> list[dict[str, Any]]:
    """At least one message of each kind that the proxy sends."""
    heard: list[dict[str, Any]] = []
    async with open_socket(service) as socket:
        heard.append(await socket.ask(**GENERATE))
        heard += await socket.hear_to_end()
        known = heard[0]["generation"]
        heard.append(await socket.ask(type="subscribe", generation=known))
        await socket.hear_to_end()
        heard.append(await socket.ask(type="subscribe", generation="gen_unknown"))
        heard.append(await socket.ask(type="ping"))
    async with open_socket(service, headers=HALF_OF_EIGHT_THEN_SILENCE) as socket:
        endless = (await socket.ask(**GENERATE))["generation"]
        while (await socket.hear())["seq"] < 4:
            pass
        await socket.say(type="cancel", generation=endless)
        told = [await socket.hear(), await socket.hear()]  # this, and the end, in either order
        heard += [message for message in told if message["type"] == "cancelled"]
        endless = (await socket.ask(**GENERATE))["generation"]
        while (await socket.hear())["seq"] < 4:
            pass
        heard.append(await socket.ask(type="unsubscribe", generation=endless))
    generation = service.proxy.hub.get(known)
    slow = Evicted("slow")
    heard.append(json.loads(messages.gap(generation, Gap(18, 40))))
    heard.append(json.loads(messages.evicted(generation, slow, failure_of_end(slow))))
    return heard


async def test_every_message_of_the_proxy_is_shown_as_it_is() -> None:
    async with open_simulated() as service:
        heard = {message["type"]: shape_of(message) for message in await hear_everything(service)}

    assert heard == {message["type"]: shape_of(message) for message in shown("proxy")}


def test_every_message_of_a_client_is_shown_with_every_field_and_is_understood() -> None:
    fields: dict[str, set[str]] = {}
    for message in shown("client"):
        messages.read_command(json.dumps(message))
        fields.setdefault(message["type"], set()).update(message)

    assert fields.pop("pong") == {"type"}
    assert fields == {
        kind.__struct_config__.tag: {"type", *(one.name for one in msgspec.structs.fields(kind))}
        for kind in get_args(messages.Command)
        if kind is not messages.Pong
    }


def test_the_close_codes_are_those_that_there_are() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d{4}) \|", CHAPTER, re.MULTILINE)}

    assert told == {MESSAGE_TOO_BIG, *CloseCode}


def test_the_limits_are_those_that_there_are() -> None:
    allowance = f"{MESSAGES_AT_ONCE} things at once, and {MESSAGES_PER_SECOND:.0f} more each second"
    assert allowance in CHAPTER
    assert f"the subprotocol is `{SUBPROTOCOL}`" in CHAPTER


async def test_the_example_for_browsers_prints_the_text(proxy: Proxy, tmp_path: Path) -> None:
    output = await run(EXAMPLES["browser"], proxy.url, tmp_path)

    assert output.replace("\n", "") == "".join(generate_text("Hello", 20))
