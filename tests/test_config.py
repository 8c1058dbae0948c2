"""Settings: where they come from, which one wins, and how a wrong one is told."""

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
import rich.pretty

from trioproxy.config import (
    KEY_EXPECTED,
    NAME_EXPECTED,
    SETTINGS,
    ConfigError,
    RouteEntry,
    Settings,
    TargetEntry,
    describe_settings,
    load_settings,
    parse_address,
)

MIB = 2**20

# Of every setting: a text and its value, a TOML expression and its value, texts that are refused.
SIZE = ("512 kB", 512_000, "524288", 524_288, ["abc", "0", "-1", "1.5MiB", "3 XB", "", "1e3", "٣"])
LIMIT = ("2.5", 2.5, "inf", math.inf, ["0", "-1", "nan", "abc", "", "5s"])
BEAT = ("0.1", 0.1, "inf", math.inf, ["0.09", "0", "-1", "nan", "abc", ""])
DELAY = ("0", 0.0, "inf", math.inf, ["-1", "nan", "-inf", "abc", ""])
STAY = ("0", 0.0, "5", 5.0, ["-1", "inf", "nan", "abc", ""])
COUNT = ("7", 7, "7", 7, ["0", "-1", "1.5", "abc", "", "inf"])
BOUND = ("7", 7.0, "inf", math.inf, ["0", "0.5", "-1", "nan", "abc", ""])
SWITCH = ("true", True, "false", False, ["yes", "", "2"])
FILE = ("a.pem", "a.pem", '"b.pem"', "b.pem", [""])
VALUES: dict[str, tuple[str, Any, str, Any, list[str]]] = {
    "bind": (
        "[::1]:0, unix:/run/a b.sock",
        "[::1]:0,unix:/run/a b.sock",
        '"a-b.example:80"',
        "a-b.example:80",
        ["", ",", "x", "1.2.3.4:", "a:1,a:1", "unix:a.sock", "unix:/a/", f"unix:/{'a' * 107}"],
    ),
    "reuse_port": SWITCH,
    "trusted_proxies": (
        "10.0.0.0/8, ::1",
        "10.0.0.0/8,::1",
        '"unix"',
        "unix",
        ["localhost", "10.0.0.0/33", "1.2.3.4:80"],
    ),
    "certfile": FILE,
    "keyfile": FILE,
    "upstream": (
        "http://127.0.0.1:8080/v1/",
        "http://127.0.0.1:8080/v1",
        '"https://engine.example"',
        "https://engine.example",
        [
            "",
            "127.0.0.1:8080",
            "ftp://host",
            "http://",
            "http://h?a=b",
            "http://h#f",
            "http://☃.com",
        ],
    ),
    "upstream_key": ("k-1", "k-1", '"k"', "k", ["", "k\n", "Bearer k", "é"]),
    "trust_env": SWITCH,
    "default_stream": SWITCH,
    "coalesce": ("identical", "identical", '"off"', "off", ["Off", "", "on"]),
    "linger": STAY,
    "create_linger": STAY,
    "retention": STAY,
    "on_lag": ("skip", "skip", '"evict"', "evict", ["x", ""]),
    "max_lag": SIZE,
    "write_timeout": LIMIT,
    "heartbeat": BEAT,
    "flush_interval": DELAY,
    "commit_after": DELAY,
    "upstream_keep_alive": DELAY,
    "connect_timeout": LIMIT,
    "first_token_timeout": LIMIT,
    "inter_token_timeout": LIMIT,
    "body_timeout": LIMIT,
    "drain_delay": STAY,
    "drain": DELAY,
    "max_head": SIZE,
    "max_body": SIZE,
    "max_prompt": BOUND,
    "max_duration": LIMIT,
    "max_tenant_subscribers": BOUND,
    "max_total_generations": BOUND,
    "max_loop_lag": LIMIT,
    "max_connections": BOUND,
    "max_address_connections": BOUND,
    "requests_per_minute": BOUND,
    "rate_limiter": ("token-bucket", "token-bucket", '"sliding-window"', "sliding-window", ["x"]),
    "burst": COUNT,
    "max_event": SIZE,
    "max_transcript": SIZE,
    "max_hub": SIZE,
    "max_subscribers": COUNT,
    "max_generations": BOUND,
    "workers": COUNT,
    "cluster": (
        "redis://127.0.0.1:6379/0",
        "redis://127.0.0.1:6379/0",
        '"valkeys://user:secret@broker.example"',
        "valkeys://user:secret@broker.example",
        ["127.0.0.1:6379", "http://h", "redis://", "redis://h\n"],
    ),
    "cluster_publish": ("always", "always", '"demand"', "demand", ["never", ""]),
    "cluster_lease": ("1.5", 1.5, "300", 300.0, ["0.4", "301", "inf", "nan", "long"]),
    "cluster_down": ("refuse", "refuse", '"local"', "local", ["no", ""]),
    "cluster_patience": LIMIT,
    "cache_ttl": STAY,
    "cache_size": SIZE,
    "cache_replay_rate": LIMIT,
    "cors_origins": (
        "https://a.example, http://b.example:8080",
        "https://a.example,http://b.example:8080",
        '"*"',
        "*",
        ["a.example", "https://a.example/", "https://u@a.example", "https://a b", "**"],
    ),
    "log": ("json", "json", '"text"', "text", ["loud", ""]),
    "traces": SWITCH,
    "debug": SWITCH,
    "insecure_open": SWITCH,
}
A_HASH = "sha256:" + 64 * "a"
AN_UPSTREAM = "[[upstream]]\nname = 'a'\nurl = 'http://h'\n"
COMPANIONS: dict[str, dict[str, str | None]] = {
    "bind": {"insecure_open": "true"},
    "certfile": {"keyfile": "k.pem"},
    "keyfile": {"certfile": "c.pem"},
    "upstream_key": {"upstream": "http://engine.example"},
}
NAMES = sorted(VALUES)
WRONG = [(name, text) for name in NAMES for text in VALUES[name][4]]


def load(
    flags: dict[str, str | None] | None = None,
    environ: dict[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    return load_settings(flags=flags or {}, environ=environ or {}, file=file)


def toml(directory: Path, text: str) -> Path:
    file = directory / "proxy.toml"
    file.write_text(text, encoding="utf-8")
    return file


def line_of(name: str, written: str) -> str:
    """The setting as it stands in a file."""
    return f"[{SETTINGS[name].table}]\n{SETTINGS[name].key} = {written}\n"


def refusal(**sources: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(**sources)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_setting_is_in_these_tables():
    assert sorted(SETTINGS) == NAMES


def test_nothing_given_gives_the_defaults():
    assert Settings() == load(environ={"PATH": "/bin", "trioproxy_linger": "5"})


def test_defaults_pass_the_checks_of_their_own_fields():
    assert Settings() == msgspec.convert(msgspec.structs.asdict(Settings()), Settings)


@pytest.mark.parametrize("name", NAMES)
def test_setting_is_described_in_one_sentence_or_more(name: str):
    assert SETTINGS[name].description.endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_setting_is_read_from_a_flag(name: str):
    text, value, *_ = VALUES[name]

    settings = load(flags={**COMPANIONS.get(name, {}), name: text})

    assert value == getattr(settings, name)


@pytest.mark.parametrize("name", NAMES)
def test_setting_is_read_from_the_environment(name: str):
    text, value, *_ = VALUES[name]

    settings = load(flags=COMPANIONS.get(name), environ={f"TRIOPROXY_{name.upper()}": text})

    assert value == getattr(settings, name)


@pytest.mark.parametrize("name", NAMES)
def test_setting_is_read_from_a_toml_file(name: str, tmp_path: Path):
    _, _, written, value, _ = VALUES[name]

    settings = load(flags=COMPANIONS.get(name), file=toml(tmp_path, line_of(name, written)))

    read = getattr(settings, name)
    assert (value, type(value)) == (read, type(read))


@pytest.mark.parametrize("name", NAMES)
def test_flag_wins_over_environment_and_environment_over_file_and_file_over_default(
    name: str, tmp_path: Path
):
    text, as_text, written, as_toml, _ = VALUES[name]
    file = toml(tmp_path, line_of(name, written))
    companions = COMPANIONS.get(name, {})
    variable = f"TRIOPROXY_{name.upper()}"
    other = written.strip('"')

    by_file = load(flags=companions, file=file)
    by_environment = load(flags=companions, environ={variable: text}, file=file)
    by_flag = load(flags={**companions, name: other}, environ={variable: text}, file=file)

    assert as_toml == getattr(by_file, name)
    assert as_text == getattr(by_environment, name)
    assert as_toml == getattr(by_flag, name)


@pytest.mark.parametrize(("name", "text"), WRONG)
def test_wrong_text_is_refused_by_the_name_of_its_flag_or_variable(name: str, text: str):
    variable = f"TRIOPROXY_{name.upper()}"

    by_flag = refusal(flags={name: text})
    by_environment = refusal(environ={variable: text})

    assert by_flag.startswith(f"--{name.replace('_', '-')}: expected ")
    assert by_environment.startswith(f"{variable}: expected ")


@pytest.mark.parametrize("written", ["[1]", "1979-05-27", "{ a = 1 }"])
@pytest.mark.parametrize("name", NAMES)
def test_toml_value_of_no_setting_s_type_is_refused(name: str, written: str, tmp_path: Path):
    file = toml(tmp_path, line_of(name, written))

    message = refusal(file=file)

    assert message.startswith(f"{file}: ")
    assert f"{SETTINGS[name].table}.{SETTINGS[name].key}" in message


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("linger", '"5"'),
        ("linger", "true"),
        ("linger", "nan"),
        ("linger", "-1"),
        ("drain", '"inf"'),
        ("max_body", "1.5"),
        ("max_body", "0"),
        ("max_body", '"8 M"'),
        ("max_body", "true"),
        ("max_subscribers", '"7"'),
        ("debug", "1"),
        ("debug", '"true"'),
        ("on_lag", '"x"'),
        ("upstream", '"ftp://h"'),
        ("upstream_key", "5"),
    ],
)
def test_toml_value_must_have_the_type_of_its_setting(name: str, written: str, tmp_path: Path):
    file = toml(tmp_path, line_of(name, written))

    message = refusal(file=file)

    assert message.startswith(f"{file}: {SETTINGS[name].table}.{name}: expected ")


def test_wrong_value_is_refused_although_another_source_overrides_it():
    message = refusal(flags={"linger": "5"}, environ={"TRIOPROXY_LINGER": "abc"})

    assert message.startswith("TRIOPROXY_LINGER: ")


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (
            {"flags": {"linger": "abc"}},
            "--linger: expected a number of seconds >= 0, got 'abc'",
        ),
        (
            {"environ": {"TRIOPROXY_ON_LAG": "x"}},
            "TRIOPROXY_ON_LAG: expected one of wait, skip, evict, got 'x'",
        ),
        (
            {"flags": {"write_timeout": "0"}},
            "--write-timeout: expected a number of seconds > 0, or inf, got '0'",
        ),
        (
            {"flags": {"max_body": "8 M"}},
            "--max-body: expected a size >= 1 byte, such as 65536, 512kB or 16MiB, got '8 M'",
        ),
        (
            {"flags": {"max_subscribers": "0"}},
            "--max-subscribers: expected a whole number >= 1, got '0'",
        ),
        ({"environ": {"TRIOPROXY_DEBUG": ""}}, "TRIOPROXY_DEBUG: expected true or false, got ''"),
        (
            {"flags": {"bind": "9010"}},
            "--bind: expected addresses such as 127.0.0.1:9010 and unix:/run/proxy.sock, "
            "separated by commas, got '9010'",
        ),
        (
            {"flags": {"upstream": "localhost:8080"}},
            "--upstream: expected an http(s) URL with a host, and no user, query or fragment, "
            "got 'localhost:8080'",
        ),
        (
            {"environ": {"TRIOPROXY_LINGR": "5"}},
            "TRIOPROXY_LINGR: unknown setting (did you mean 'TRIOPROXY_LINGER'?)",
        ),
        (
            {"environ": {"TRIOPROXY_linger": "5"}},
            "TRIOPROXY_linger: unknown setting (did you mean 'TRIOPROXY_LINGER'?)",
        ),
        ({"environ": {"TRIOPROXY_ZZZ": "5"}}, "TRIOPROXY_ZZZ: unknown setting"),
        ({"environ": {"TRIOPROXY_": "5"}}, "TRIOPROXY_: unknown setting"),
        (
            {"flags": {"certfile": "c.pem"}},
            "--certfile: expected keyfile to be set as well",
        ),
        (
            {"environ": {"TRIOPROXY_KEYFILE": "k.pem"}},
            "TRIOPROXY_KEYFILE: expected certfile to be set as well",
        ),
        (
            {"environ": {"TRIOPROXY_UPSTREAM_KEY": "k"}},
            "TRIOPROXY_UPSTREAM_KEY: expected upstream to be set as well",
        ),
        (
            {"environ": {"TRIOPROXY_CONFIG": ""}},
            "TRIOPROXY_CONFIG: expected a file name, got ''",
        ),
    ],
)
def test_refusal_says_what_was_given_and_what_was_expected(sources: dict[str, Any], message: str):
    assert message == refusal(**sources)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nlingr = 5", "unknown setting 'lingr' in [server] (did you mean 'linger'?)"),
        (
            "[limits]\nmax-bdy = 5",
            "unknown setting 'max-bdy' in [limits] (did you mean 'max_body'?)",
        ),
        ("[server]\nzzz = 5", "unknown setting 'zzz' in [server]"),
        ("zzz = 5", "unknown setting 'zzz'"),
        ("[servr]\nlinger = 5", "unknown setting 'servr' (did you mean 'server'?)"),
        ("linger = 5", "unknown setting 'linger': it belongs into [server]"),
        ("[limits]\nlinger = 5", "unknown setting 'linger' in [limits]: it belongs into [server]"),
        ("server = 5", "server: expected a table, as in [server]"),
        ("[server]\nlinger = -1", "server.linger: expected a number of seconds >= 0, got -1"),
        ("[server]\non_lag = 'x'", "server.on_lag: expected one of wait, skip, evict, got 'x'"),
        ("[server]\ncertfile = 'c.pem'", "server.certfile: expected keyfile to be set as well"),
        ("\n\nlinger 5", "line 3, column 8: Expected '=' after a key in a key/value pair"),
        ("linger = ", "end of document: Invalid value"),
        ("tenant = 5", "tenant: expected one table or more, as in [[tenant]]"),
        ("[tenant]\nname = 'a'", "tenant: expected one table or more, as in [[tenant]]"),
        ("cors_origins = '*'", "unknown setting 'cors_origins': it is 'origins' in [cors]"),
        ("a = " + 5_000 * "[", "nested too deeply"),
        (
            f"[[tenant]]\nname = 'a b'\nkeys = ['{A_HASH}']",
            f"tenant[0].name: expected {NAME_EXPECTED}",
        ),
        ("[[tenant]]\nname = 'a'", "tenant[0]: object missing required field `keys`"),
        ("[[tenant]]\nname = 'a'\nkeys = []", "tenant[0].keys: expected `array` of length >= 1"),
        (
            "[[tenant]]\nname = 'a'\nkeys = ['secret']",
            "tenant[0].keys[0]: expected the hash of a key, as `trioproxy make-key` prints it",
        ),
        (
            f"[[tenant]]\nname = 'a'\nkeys = ['{A_HASH}']\nadmn = true",
            "tenant[0]: object contains unknown field `admn`",
        ),
        (
            f"[[tenant]]\nname = 'a'\nkeys = ['{A_HASH}']\nmax_generations = 0",
            "tenant[0].max_generations: expected `float` >= 1.0",
        ),
        (
            2 * f"[[tenant]]\nname = 'a'\nkeys = ['{A_HASH}']\n",
            "tenant: there are two of the name 'a'",
        ),
        (
            "".join(f"[[tenant]]\nname = '{name}'\nkeys = ['{A_HASH}']\n" for name in "ab"),
            "tenant: a key of 'b' is another's too",
        ),
        (
            "[[upstream]]\nname = 'a'\nurl = 'ftp://h'",
            "upstream[0].url: expected an http(s) URL with a host, and no user, query or fragment",
        ),
        (2 * AN_UPSTREAM, "upstream: there are two of the name 'a'"),
        (f"{AN_UPSTREAM}key = 'a b'", f"upstream[0].key: expected {KEY_EXPECTED}"),
        (
            f"{AN_UPSTREAM}key_env = 'ENGINE_KEY'",
            "upstream[0].key_env: ENGINE_KEY is not in the environment",
        ),
        (
            f"{AN_UPSTREAM}key_env = 'ENGINE_KEY'\nkey = 'k'",
            "upstream[0].key_env: there is a key already",
        ),
        (
            f"{AN_UPSTREAM}headers = {{ 'x y' = 'z' }}",
            "upstream[0].headers: expected the name of a header",
        ),
        (
            f'{AN_UPSTREAM}headers = {{ x = "y\\n" }}',
            "upstream[0].headers[...]: expected printable ASCII characters",
        ),
        (
            f"{AN_UPSTREAM}headers = {{ Host = 'x' }}",
            "upstream[0].headers: expected no Host: that is for the proxy to say",
        ),
        (
            f"{AN_UPSTREAM}key = 'k'\nheaders = {{ X-Api-Key = 'x' }}",
            "upstream[0].headers: expected no X-Api-Key: that is for the proxy to say",
        ),
        (f"{AN_UPSTREAM}health = 'up'", "upstream[0].health: expected a path such as /health"),
        (
            f"{AN_UPSTREAM}[server]\nupstream = 'http://h'",
            "server.upstream: expected no [[upstream]] beside it",
        ),
        (
            "[[route]]\nmodel = '*'\nto = [{ upstream = 'a' }]",
            "route: expected an [[upstream]] that it leads to",
        ),
        (
            f"{AN_UPSTREAM}[[route]]\nmodel = '*'\nto = [{{ upstream = 'b' }}]",
            "route[0].to[0].upstream: there is no [[upstream]] of the name 'b'",
        ),
        (
            f"{AN_UPSTREAM}[[route]]\nmodel = '*'\nto = [" + 2 * "{ upstream = 'a' }," + "]",
            "route[0].to: an upstream is in it twice",
        ),
        (
            f"{AN_UPSTREAM}[[route]]\nmodel = '*'\nto = []",
            "route[0].to: expected `array` of length >= 1",
        ),
    ],
)
def test_refusal_of_a_file_names_the_file_and_the_place(text: str, message: str, tmp_path: Path):
    file = toml(tmp_path, text)

    assert f"{file}: {message}" == refusal(file=file)


def test_file_is_named_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    toml(tmp_path, "lingr = 5")

    assert refusal(file=Path("proxy.toml")) == (
        "proxy.toml: unknown setting 'lingr' (did you mean 'linger'?)"
    )


def test_missing_file_is_refused(tmp_path: Path):
    file = tmp_path / "none.toml"

    assert f"{file}: cannot be read: No such file or directory" == refusal(file=file)


def test_directory_in_place_of_a_file_is_refused(tmp_path: Path):
    assert f"{tmp_path}: cannot be read: Is a directory" == refusal(file=tmp_path)


def test_file_that_is_not_utf_8_is_refused(tmp_path: Path):
    file = tmp_path / "proxy.toml"
    file.write_bytes(b"bind = '\xff'")

    assert f"{file}: expected text in UTF-8" == refusal(file=file)


def test_environment_names_the_file(tmp_path: Path):
    file = toml(tmp_path, "[server]\nlinger = 5")

    assert load(environ={"TRIOPROXY_CONFIG": str(file)}) == Settings(linger=5.0)


def test_file_of_the_command_line_wins_over_the_one_of_the_environment(tmp_path: Path):
    file = toml(tmp_path, "[server]\nlinger = 5")

    settings = load(environ={"TRIOPROXY_CONFIG": str(tmp_path / "none.toml")}, file=file)

    assert settings.linger == 5.0


def test_setting_and_the_one_it_needs_may_come_from_different_places(tmp_path: Path):
    settings = load(flags={"keyfile": "k.pem"}, file=toml(tmp_path, "[server]\ncertfile = 'c.pem'"))

    assert (settings.certfile, settings.keyfile) == ("c.pem", "k.pem")


@pytest.mark.parametrize(
    "variable",
    [
        "TRIOPROXY_PORT",
        "TRIOPROXY_PORT_9010_TCP_ADDR",
        "TRIOPROXY_SERVICE_HOST",
        "TRIOPROXY_SERVICE_PORT_HTTP",
    ],
)
def test_what_kubernetes_says_of_a_service_of_our_name_is_no_setting(variable: str):
    assert load(environ={variable: "tcp://10.0.0.1:9010"}) == Settings()


def test_flag_that_was_not_given_overrides_nothing():
    assert load(flags={"linger": None}, environ={"TRIOPROXY_LINGER": "5"}).linger == 5.0


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("8MB", 8_000_000),
        ("8mb", 8_000_000),
        ("512 kB", 512_000),
        ("512 B", 512),
        ("16MiB", 16 * MIB),
        ("16 mib", 16 * MIB),
        ("64KiB", 65_536),
        ("2GiB", 2 * 2**30),
        ("2GB", 2_000_000_000),
    ],
)
def test_size_is_written_the_same_way_everywhere(text: str, size: int, tmp_path: Path):
    by_flag = load(flags={"max_hub": text})
    by_environment = load(environ={"TRIOPROXY_MAX_HUB": text})
    by_file = load(file=toml(tmp_path, f"[limits]\nmax_hub = '{text}'"))

    assert [size] * 3 == [by_flag.max_hub, by_environment.max_hub, by_file.max_hub]


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("http://h", "http://h"),
        ("http://h/", "http://h"),
        ("https://h:8443/prefix//", "https://h:8443/prefix"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("HTTP://h", "HTTP://h"),
    ],
)
def test_upstream_loses_its_trailing_slash(url: str, normal: str):
    assert load(flags={"upstream": url}).upstream == normal


@pytest.mark.parametrize(
    "url",
    [
        "http://h:99999",
        "http://h:0",
        "http://h:port",
        "http://[::1",
        "http:///path",
        "http://:80",
        "http://h/a b",
        "http://h/\tb",
        "http://h\n",
        "http://h/?",
        "http://user@h",
    ],
)
def test_upstream_that_cannot_be_called_is_refused(url: str):
    assert refusal(flags={"upstream": url}).startswith("--upstream: expected an http(s) URL")


@pytest.mark.parametrize(
    "url",
    [
        "http://user:pass-word@h",
        "user:pass-word@h",
        "http://h?key=pass-word",
        "http://u:pass-word/x@h",
    ],
)
def test_refused_upstream_does_not_show_what_may_be_secret(url: str):
    message = refusal(flags={"upstream": url})

    assert "pass-word" not in message
    assert "***" in message


@pytest.mark.parametrize("text", ["sesame\n", "sésame"])
def test_refused_key_is_not_shown(text: str):
    with pytest.raises(ConfigError) as caught:
        load(environ={"TRIOPROXY_UPSTREAM_KEY": text})

    message = "TRIOPROXY_UPSTREAM_KEY: expected visible ASCII characters without a space"
    assert message == str(caught.value)
    assert caught.value.__suppress_context__


def test_key_is_masked_wherever_settings_are_shown():
    settings = Settings(upstream="http://h", upstream_key="sesame")

    shown = [repr(settings), str(settings), rich.pretty.pretty_repr(settings)]

    assert all("sesame" not in each and "upstream_key='***'" in each for each in shown)
    assert "upstream_key=None" in repr(Settings())


def test_settings_do_not_change():
    with pytest.raises(AttributeError):
        Settings().linger = 5.0  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("address", ["127.0.0.1:9010", "[::1]:0", "localhost:65535", "a_b.c-d:1"])
def test_address_is_a_host_and_a_port(address: str):
    assert address == parse_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        ":9010",
        "9010",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "::1:9010",
        "http://h:1",
        "a..b:1",
        "h:1\n",
        "h h:1",
        "h:٣",
    ],
)
def test_anything_else_is_no_address(address: str):
    with pytest.raises(ValueError, match=r".*"):
        parse_address(address)


TENANTS = f"""
[[tenant]]
name = "alice"
keys = ["{A_HASH}", "{A_HASH[:-1]}b"]

[[tenant]]
name = "root"
keys = ["{A_HASH[:-1]}c"]
admin = true
"""


def test_what_a_tenant_may_use_is_read_and_written_as_it_is(tmp_path: Path):
    own = "requests_per_minute = inf\nmax_generations = 2\nmax_subscribers = 3\n"
    entry = f"[[tenant]]\nname = 'a'\nkeys = ['{A_HASH}']\n"
    settings = load(file=toml(tmp_path, entry + own))
    [tenant] = settings.gateway.tenants

    assert (tenant.requests_per_minute, tenant.max_generations, tenant.max_subscribers) == (
        math.inf,
        2,
        3,
    )
    assert load(file=toml(tmp_path, describe_settings(settings))) == settings
    without = load(file=toml(tmp_path, entry))
    assert load(file=toml(tmp_path, describe_settings(without))) == without


def test_tenants_are_read_from_the_file(tmp_path: Path):
    settings = load(file=toml(tmp_path, TENANTS))

    assert [(each.name, len(each.keys), each.admin) for each in settings.gateway.tenants] == [
        ("alice", 2, False),
        ("root", 1, True),
    ]


def test_origins_may_be_a_list(tmp_path: Path):
    origins = '["https://a.example", "https://b.example"]'

    settings = load(file=toml(tmp_path, f"[cors]\norigins = {origins}"))

    assert settings.allowed_origins == {"https://a.example", "https://b.example"}


def test_addresses_may_be_a_list(tmp_path: Path):
    settings = load(file=toml(tmp_path, '[server]\nbind = ["[::1]:80", "unix:/run/a.sock"]'))

    assert settings.binds == ["[::1]:80", "unix:/run/a.sock"]


@pytest.mark.parametrize(
    "bind",
    [
        "127.0.0.1:0",
        "127.9.9.9:1",
        "localhost:9010",
        "[::1]:9010",
        "unix:/run/a.sock",
        "127.0.0.1:0,127.0.0.1:0,unix:/a",
    ],
)
def test_without_tenants_it_may_listen_on_loopback(bind: str):
    assert load(flags={"bind": bind}).bind == bind


def test_each_address_is_looked_at_by_itself():
    message = refusal(flags={"bind": "unix:/run/a.sock,0.0.0.0:80,127.0.0.1:80"})

    assert message.startswith("--bind: 0.0.0.0:80 can be reached by others")


@pytest.mark.parametrize("bind", ["0.0.0.0:9010", "[::]:9010", "192.168.1.2:80", "host:80"])
def test_elsewhere_it_needs_tenants_or_to_be_told(bind: str, tmp_path: Path):
    message = refusal(flags={"bind": bind})

    assert message == (
        f"--bind: {bind} can be reached by others, and anybody could use the engine: "
        "configure a [[tenant]], or say --insecure-open"
    )
    assert load(flags={"bind": bind, "insecure_open": "true"}).bind == bind
    assert load(flags={"bind": bind}, file=toml(tmp_path, TENANTS)).bind == bind


def test_upstreams_and_routes_of_a_file(tmp_path: Path):
    file = toml(
        tmp_path,
        AN_UPSTREAM
        + "key_env = 'ENGINE_KEY'\nmax_calls = 8\nheaders = { X-Team = 'a' }\n"
        + "[[route]]\nmodel = 'gpt-*'\nto = [{ upstream = 'a', weight = 3, model = 'b' }]",
    )

    gateway = load(environ={"ENGINE_KEY": "sk-1"}, file=file).gateway

    (upstream,), (route,) = gateway.upstreams, gateway.routes
    assert (upstream.name, upstream.url, upstream.key) == ("a", "http://h", "sk-1")
    assert (upstream.max_calls, upstream.headers) == (8, {"X-Team": "a"})
    assert route == RouteEntry(
        model="gpt-*", to=(TargetEntry(upstream="a", weight=3.0, model="b"),), retries=2
    )


def test_secrets_of_an_upstream_are_not_shown(tmp_path: Path):
    file = toml(tmp_path, AN_UPSTREAM + "key = 'sesame'\nheaders = { X-Token = 'sesame' }")

    settings = load(file=file)

    for shown in (repr(settings), describe_settings(settings)):
        assert "sesame" not in shown
        assert "X-Token" in shown


def test_upstreams_and_routes_are_printed_as_a_file_that_says_the_same(tmp_path: Path):
    file = toml(
        tmp_path,
        AN_UPSTREAM
        + "max_queue = 0\nhealth = '/health'\nbreaker_seconds = 5\n"
        + "[[route]]\nmodel = '\\\"*'\nto = [{ upstream = 'a', weight = 0.5, model = 'b' }]\n",
    )
    settings = load(file=file)

    printed = load(file=toml(tmp_path, describe_settings(settings)))

    assert printed == settings


def test_what_is_no_text_is_told_as_any_wrong_value() -> None:
    environ = {"TRIOPROXY_CERTFILE": "\udcff", "TRIOPROXY_KEYFILE": "key.pem"}

    with pytest.raises(ConfigError, match=r"TRIOPROXY_CERTFILE: expected .*, got '\\udcff'"):
        load_settings(flags={}, environ=environ, file=None)
