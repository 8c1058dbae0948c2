"""A file, an environment and a command line of anybody's: settings, or one line that says what is
wrong and where."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.budget import budget
from tests.fuzz.noise import spoiled
from trioproxy.config import SETTINGS, ConfigError, Settings, describe_settings, load_settings

FILES = [
    b'[server]\nbind = "127.0.0.1:9010"\nupstream = "http://engine/v1"\nheartbeat = 1.5\n'
    b'[limits]\nmax_body = "8MiB"\nwrite_timeout = inf\n[cors]\norigins = ["https://a.example"]\n',
    b'[[tenant]]\nname = "alice"\nkeys = ["sha256:%b"]\nadmin = true\n' % (b"0" * 64),
    b"[server]\nbind = " + b"[" * 2_000,
    b"[server]\nlog = 'json'\ndebug = true\n# comment\n[limits]\nmax_generations = 1\n",
]
TOKENS = [
    *(b"[", b"]", b"=", b'"', b"'", b'"""', b"\n", b"\r\n", b"#", b".", b"\\", b"\0", b"\x1b"),
    *(b"[server]\n", b"[limits]\n", b"[[tenant]]\n", b"tenant = ", b"keys = ", b"name = "),
    *(b"inf", b"nan", b"-1", b"1e400", b"9" * 5_000, b"1979-05-27", b"true", b"[" * 2_000),
    *(b"0x10", b"a.b.c = 1\n", b'"a\\nb" = 1\n', b"\\ud800", b"{a=1}", b"\xef\xbb\xbf", b"\xff"),
]


def load(*, file: Path | None = None, environ: Mapping[str, str], flags: Mapping[str, str]) -> None:
    try:
        settings = load_settings(flags=flags, environ=environ, file=file)
    except ConfigError as error:
        told = str(error)
    else:
        assert isinstance(settings, Settings)
        told = f"{file}: {len(describe_settings(settings))}"
    assert len(told.splitlines()) == 1, told
    assert file is None or str(file) in told


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings") / "trioproxy.toml"


@budget(300)
@given(content=spoiled(FILES, TOKENS))
def test_any_file_is_read_or_told_in_one_line_what_is_wrong(file: Path, content: bytes) -> None:
    file.write_bytes(content)

    load(file=file, environ={}, flags={})


ODD = [
    *("", "inf", "nan", "-1", "1e400", "9" * 5_000, "8MiB", "true", "json", "\n", "\ud800"),
    *("127.0.0.1:0", "0.0.0.0:80", "[::1]:1", "http://a@b", "http://[", "http://a:99999"),
]
TEXTS = st.text(max_size=12) | st.sampled_from(ODD)
NAMES = st.sampled_from(list(SETTINGS))


@budget(300)
@given(st.dictionaries(NAMES, TEXTS, max_size=4), st.dictionaries(NAMES, TEXTS, max_size=4))
def test_any_environment_and_any_command_line_too(
    flags: dict[str, str], variables: dict[str, str]
) -> None:
    environ = {SETTINGS[name].variable: text for name, text in variables.items()}

    load(environ=environ, flags=flags)
