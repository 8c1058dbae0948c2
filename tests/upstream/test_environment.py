"""Proxies named in the environment: nobody's business, unless the operator says so."""

from __future__ import annotations

import pytest
import trio

from tests.upstream.calls import read, upstream_to
from tests.upstream.engine import Peer, play, server_context, start_engine, whole_stream
from trioproxy.upstream import UpstreamUnreachable

VARIABLES = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [*VARIABLES, "NO_PROXY", "no_proxy"]:
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_proxy_in_the_environment_is_ignored_by_default(
    nursery: trio.Nursery, variable: str, tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await start_engine(nursery, play(whole_stream(b"by the proxy")))
    engine = await start_engine(
        nursery, play(whole_stream(b"direct")), tls=server_context() if tls else None
    )
    monkeypatch.setenv(variable, proxy.url())

    arrivals = await read(upstream_to(engine))

    assert proxy.peers == []
    assert arrivals[0].data == b"direct"


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_proxy_in_the_environment_is_used_where_the_environment_is_trusted(
    nursery: trio.Nursery, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await start_engine(nursery, play(whole_stream(b"by the proxy")))
    engine = await start_engine(nursery, play(whole_stream(b"direct")))
    monkeypatch.setenv(variable, proxy.url())

    arrivals = await read(upstream_to(engine, trust_env=True))

    assert engine.peers == []
    assert arrivals[0].data == b"by the proxy"
    (peer,) = proxy.peers
    assert peer.received.startswith(b"POST http://127.0.0.1:%d/v1/completions " % engine.port)


async def test_tls_goes_through_a_trusted_proxys_tunnel(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tunnel_to_an_engine(peer: Peer) -> None:
        assert (await peer.head()).startswith(b"CONNECT engine.test:443 ")
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.received.clear()
        await peer.shake_hands(server_context())
        await play(whole_stream(b"through the tunnel"))(peer)

    proxy = await start_engine(nursery, tunnel_to_an_engine)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url())

    arrivals = await read(upstream_to(proxy, url="https://engine.test", trust_env=True))

    assert arrivals[0].data == b"through the tunnel"


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize("exempt", ["*", "127.0.0.1", "engine.test, 127.0.0.1"])
async def test_host_that_a_trusted_environment_exempts_is_called_directly(
    nursery: trio.Nursery, variable: str, exempt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await start_engine(nursery, play(whole_stream(b"by the proxy")))
    engine = await start_engine(nursery, play(whole_stream(b"direct")))
    monkeypatch.setenv("ALL_PROXY", proxy.url())
    monkeypatch.setenv(variable, exempt)

    arrivals = await read(upstream_to(engine, trust_env=True))

    assert proxy.peers == []
    assert arrivals[0].data == b"direct"


async def test_proxy_that_refuses_a_tunnel_makes_the_upstream_unreachable(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await start_engine(
        nursery, play(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    )
    monkeypatch.setenv("HTTPS_PROXY", proxy.url())
    upstream = upstream_to(proxy, url="https://engine.test", trust_env=True)

    with pytest.raises(UpstreamUnreachable, match="403 Forbidden"):
        await read(upstream)

    await proxy.peers[0].left.wait()
    assert upstream.open_calls == 0
