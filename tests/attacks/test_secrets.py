"""Keys, prompts and the proxy's own insides: in no log at any level, no answer, no metric."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.pretty import pretty_repr

from tests.attacks.listening import listening
from tests.attacks.standing import Attacked, open_attacked
from tests.support.websocket import HANDSHAKE
from tests.web.service import CHAT, COMPLETION, COMPLETIONS, NOBODY_THERE, open_service
from tests.web.test_door import GATEWAY, ROOT
from trioproxy.cli import main
from trioproxy.config import Settings
from trioproxy.telemetry import LogFormat
from trioproxy.web.generate import Generate

SECRET = "sk-5ecret"
PROMPT = "pr0mpt of somebody"
BODY = COMPLETION | {"prompt": PROMPT}
LOG_FORMATS: list[LogFormat] = ["json", "text"]

CARRIERS: list[dict[str, str]] = [
    {"authorization": f"Bearer {SECRET}"},
    {"authorization": f"Basic {base64.b64encode(f'me:{SECRET}'.encode()).decode()}"},
    {"authorization": SECRET},
    {"x-api-key": SECRET},
    {"api-key": SECRET},
    {"x-goog-api-key": SECRET},
    {"cookie": f"session={SECRET}"},
    {"proxy-authorization": f"Bearer {SECRET}"},
    {"sec-websocket-protocol": f"trioproxy.v1, trioproxy.key.{SECRET}"},
    {"x-generation-key": SECRET},
    {"last-event-id": SECRET},
]
TOLD = re.compile("|".join([SECRET, base64.b64encode(SECRET.encode()).decode()[:8], PROMPT]))


async def ask_for_all_kinds(service: Attacked, headers: dict[str, str]) -> list[str]:
    """Calls that succeed, fail and are refused, on every kind of route: what they are answered."""
    http = service.http
    query = f"?key={SECRET}&api_key={SECRET}"
    answers = [
        await http.post(COMPLETIONS + query, json=BODY, headers=headers),
        await http.post(CHAT, json=BODY | {"stream": False}, headers=headers),
        await http.post("/v1/embeddings" + query, json=BODY, headers=headers),
        await http.post("/v1/responses", json=BODY | {"background": True}, headers=headers),
        await http.post(COMPLETIONS, content=json.dumps(BODY)[:-1], headers=headers),
        await http.get("/v1/ws" + query, headers=HANDSHAKE | {"origin": "null"} | headers),
        await http.get("/v1/generations" + query, headers=headers),
        await http.get("/metrics", headers=headers),
        await http.get("/debug/census", headers=headers),
    ]
    service.engine.answer = b"no HTTP"
    answers.append(await http.post(COMPLETIONS + query, json=BODY, headers=headers))
    return [str(answer.headers) + answer.text for answer in answers]


@pytest.mark.parametrize("log_format", LOG_FORMATS)
@pytest.mark.parametrize("headers", CARRIERS, ids=str)
async def test_a_key_and_a_prompt_are_told_to_the_engine_alone(
    headers: dict[str, str], log_format: LogFormat
) -> None:
    with listening(log_format, level=logging.DEBUG) as log:
        async with open_attacked() as service:
            answers = await ask_for_all_kinds(service, headers)

    assert "/v1/completions" in log.getvalue()
    # A client that sends its key as the id of an event is told that it is none.
    mine = [each for each in answers if "is not an event id" not in each]
    assert not [each for each in [log.getvalue(), *mine] if TOLD.search(each)]


@pytest.mark.parametrize("log_format", LOG_FORMATS)
@pytest.mark.parametrize("is_guarded", [False, True])
async def test_a_crash_tells_its_client_nothing_and_the_log_no_secret(
    log_format: LogFormat, is_guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*args: object, **fields: object) -> None:
        raise KeyError("a defect")

    headers = {"authorization": f"Bearer {SECRET}"}
    settings = {"gateway": GATEWAY, "credentials": ROOT} if is_guarded else {}
    with listening(log_format, level=logging.DEBUG) as log:
        async with open_attacked(**settings) as service:  # type: ignore[arg-type]
            with monkeypatch.context() as defect:
                defect.setattr(Generate, "subscribe", crash)
                crashed = await service.http.post(
                    COMPLETIONS, json=BODY, headers=ROOT if is_guarded else headers
                )

    assert crashed.status_code == 500
    assert crashed.json()["error"]["message"] == "an internal error of the proxy"
    assert not re.search(r"Traceback|KeyError|defect|\.py|/trioproxy", crashed.text)
    assert "KeyError: 'a defect'" in log.getvalue()
    assert not TOLD.search(log.getvalue())
    assert "tp-root" not in log.getvalue()


@pytest.mark.parametrize("log_format", LOG_FORMATS)
async def test_the_key_for_the_engine_is_told_to_nobody_else(log_format: LogFormat) -> None:
    with listening(log_format, level=logging.DEBUG) as log:
        async with open_attacked(upstream_key=SECRET) as service:
            answers = await ask_for_all_kinds(service, {})
            told = service.engine.requests()
        async with open_service(NOBODY_THERE, upstream_key=SECRET) as other:
            answers.append((await other.http.post(COMPLETIONS, json=BODY)).text)

    assert {tuple(each.values(b"authorization")) for each in told} == {(b"Bearer sk-5ecret",)}
    assert not [each for each in [log.getvalue(), *answers] if TOLD.search(each)]


@pytest.mark.parametrize("show", [repr, str, pretty_repr, "{}".format])
def test_settings_do_not_show_it(show: Callable[[Settings], str]) -> None:
    settings = Settings(upstream="http://engine", upstream_key=SECRET, gateway=GATEWAY)

    assert SECRET not in show(settings)


def test_the_command_that_shows_what_holds_does_not_show_it(tmp_path: Path) -> None:
    file = tmp_path / "trioproxy.toml"
    file.write_text(f'[server]\nupstream = "http://engine"\nupstream_key = "{SECRET}"\n')

    shown = CliRunner().invoke(main, ["check-config", str(file)])

    assert (shown.exit_code, SECRET in shown.output) == (0, False)


@pytest.mark.parametrize(
    "line",
    [
        f'upstream = "http://me:{SECRET}@engine"',
        f'upstream = "http://engine/?key={SECRET}"',
        f'upstream = "http://engine"\nupstream_key = ["{SECRET}"]',
        f'upstream = "http://engine"\nupstream_key = "{SECRET}\\n"',
        f'upstream_key = "{SECRET}"',
    ],
)
def test_what_is_wrong_with_the_file_is_told_without_it(tmp_path: Path, line: str) -> None:
    file = tmp_path / "trioproxy.toml"
    file.write_text(f"[server]\n{line}\n")

    shown = CliRunner().invoke(main, ["check-config", str(file)])

    assert (shown.exit_code, SECRET in shown.output) == (2, False)
