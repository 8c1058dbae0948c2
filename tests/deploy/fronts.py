"""nginx and Caddy with the configurations of `deploy/`, in which nothing but addresses and files is
other than there."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

DEPLOY = Path(__file__).parents[2] / "deploy"

STARTUP_SECONDS = 20.0
EXIT_SECONDS = 10.0

PROXY = "127.0.0.1:9010"
CERTIFICATE = "/etc/ssl/certs/llm.example.com.pem"
KEY = "/etc/ssl/private/llm.example.com.key"
"""As the configurations print them."""

NGINX_MAIN = """
user root;
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/trioproxy.conf;
}}
"""
"""Where a superuser starts it, its worker must be one too, or it has no place to buffer in, should
it be told to."""

CADDY_MAIN = """
{
	admin off
	auto_https disable_redirects
}
"""


@dataclass(frozen=True)
class Front:
    """A server that speaks TLS on `port` of localhost, in front of a proxy."""

    port: int
    authority: Path

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def trust(self, *protocols: str) -> ssl.SSLContext:
        """What trusts the certificate, and offers these protocols (ALPN)."""
        context = ssl.create_default_context(cafile=str(self.authority))
        context.set_alpn_protocols(protocols)
        return context


@contextmanager
def open_nginx(proxy_url: str, folder: Path) -> Generator[Front]:
    """nginx in front of a proxy, for the length of the block."""
    port = _free_port()
    _issue_certificate(folder)
    (folder / "nginx.conf").write_text(NGINX_MAIN.format(folder=folder))
    (folder / "trioproxy.conf").write_text(
        _substitute(
            "nginx.conf",
            {
                PROXY: proxy_url.removeprefix("http://"),
                "listen 443 ssl http2;": f"listen 127.0.0.1:{port} ssl http2;",
                "server_name llm.example.com;": "server_name localhost;",
                CERTIFICATE: f"{folder}/certificate.pem",
                KEY: f"{folder}/key.pem",
            },
        )
    )
    command = [program("nginx"), "-p", str(folder), "-e", "stderr", "-c", f"{folder}/nginx.conf"]
    with _running(command, port, folder):
        yield Front(port, folder / "authority.pem")


@contextmanager
def open_caddy(proxy_url: str, folder: Path) -> Generator[Front]:
    """Caddy in front of a proxy, for the length of the block."""
    port = _free_port()
    _issue_certificate(folder)
    snippet = _substitute(
        "Caddyfile",
        {
            PROXY: proxy_url.removeprefix("http://"),
            "\nllm.example.com {": f"\nhttps://localhost:{port} {{",
            CERTIFICATE: f"{folder}/certificate.pem",
            KEY: f"{folder}/key.pem",
        },
    )
    (folder / "Caddyfile").write_text(CADDY_MAIN + snippet)
    command = [program("caddy"), "run", "--adapter", "caddyfile", "--config", "Caddyfile"]
    with _running(command, port, folder):
        yield Front(port, folder / "authority.pem")


OPENERS = {"nginx": open_nginx, "caddy": open_caddy}


def program(name: str) -> str:
    """Where it is; skips where it is not installed, and fails in CI."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if path is None and "CI" in os.environ:
        pytest.fail(f"{name} is not installed")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def _substitute(name: str, substitutes: Mapping[str, str]) -> str:
    text = (DEPLOY / name).read_text()
    for printed, here in substitutes.items():
        assert text.count(printed) == 1, f"{printed!r} in {name}"
        text = text.replace(printed, here)
    return text


def _issue_certificate(folder: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    for link in certificate.cert_chain_pems:
        link.write_to_path(folder / "certificate.pem", append=True)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextmanager
def _running(command: list[str], port: int, folder: Path) -> Generator[None]:
    environ = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
        ) as process,
    ):
        try:
            if not _listens(port, process):
                log.seek(0)
                raise RuntimeError(f"{command[0]} did not start:\n{log.read().decode()}")
            yield
        finally:
            process.terminate()
            try:
                process.wait(EXIT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def _listens(port: int, process: subprocess.Popen[bytes]) -> bool:
    patience = time.monotonic() + STARTUP_SECONDS
    while process.poll() is None and time.monotonic() < patience:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return True
    return False
