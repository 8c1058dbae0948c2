"""What goes wrong between a node and a server, and what it costs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.cluster.brokers import LONG, REF, SharedServer, again, batch, log_of, own, publish, renew
from tests.cluster.relay import open_relay
from tests.cluster.servers import FAMILIES, Server, run_server
from tests.support.stepping import AtStep
from trioproxy.cluster import (
    MAIL_START,
    START,
    BrokerDown,
    BrokerRefused,
    Cursor,
    Ending,
    Lease,
    Letter,
    NotRunning,
    Ref,
)
from trioproxy.cluster.redis import RedisBroker, open_redis_broker
from trioproxy.fanout import COMPLETED
from trioproxy.fanout.outcome import failed
from trioproxy.testing import TaskCensus

WITHIN = 10.0
DEADLINE = 0.3


@pytest.fixture(params=FAMILIES)
def fragile(request: pytest.FixtureRequest) -> Generator[Server]:
    """A server that is for one test, which may break it."""
    with run_server(request.param) as server:
        yield server


@asynccontextmanager
async def open_node(server: Server, node: str = "one") -> AsyncGenerator[RedisBroker]:
    async with open_redis_broker(server.url, node, LONG, deadline=DEADLINE) as broker:
        with trio.fail_after(WITHIN):
            await broker.wait_up()
        yield broker


async def down(broker: RedisBroker) -> None:
    """Wait until the broker counts as down."""
    with trio.fail_after(WITHIN):
        while True:
            if broker.up_since is None:
                return
            await trio.sleep(0.01)


async def test_a_broker_that_stops_counts_as_down_and_is_up_when_it_goes_on(
    fragile: Server,
) -> None:
    async with open_node(fragile) as broker:
        lease = await own(broker)
        began = broker.up_since
        fragile.stop()

        with trio.fail_after(WITHIN):
            with pytest.raises(BrokerDown):
                await publish(broker, lease, batch(1, 3), after=0)
            await down(broker)
            with pytest.raises(BrokerDown, match="not connected"):
                await renew(broker, lease)
        fragile.go_on()

        assert await again(lambda: renew(broker, lease)) == 0
        with trio.fail_after(WITHIN):
            await broker.wait_up()
        assert began is not None
        assert broker.up_since is not None
        assert broker.up_since > began
        await publish(broker, lease, batch(1, 3), after=0)
        assert (await log_of(broker))[1] == [batch(1, 3)]


async def test_a_broker_that_does_not_answer_is_told_of_once(
    fragile: Server, caplog: pytest.LogCaptureFixture
) -> None:
    fragile.stop()

    async with open_redis_broker(fragile.url, "one", LONG, deadline=DEADLINE):
        await trio.sleep(6 * DEADLINE)  # several attempts

    told = [(record.name, record.exc_info) for record in caplog.records]
    assert told == [("trioproxy.cluster.standing", None)]


async def test_a_read_from_a_broker_that_stops_ends_in_its_time(fragile: Server) -> None:
    async with open_node(fragile) as broker:
        fragile.stop()
        with trio.fail_after(WITHIN), pytest.raises(BrokerDown):
            await broker.read({}, MAIL_START, wait=0.1)
        fragile.go_on()

        await again(lambda: broker.read({}, MAIL_START, wait=0))


async def test_a_broker_that_is_killed_and_comes_back_empty_is_restored(fragile: Server) -> None:
    async with open_node(fragile) as one, open_node(fragile, "two") as two:
        lease = await own(one)
        await publish(one, lease, batch(1, 3), after=0)
        await one.ping()
        cursor, _ = await log_of(two)
        fragile.kill()
        await down(one)
        fragile.start()

        assert await again(one.ping) == 0
        with pytest.raises(NotRunning, match="unknown"):
            await renew(one, lease)
        await one.restore(lease, b"about", None, batch(1, 3))
        await publish(one, lease, batch(4, 5), after=3)

        await again(lambda: two.read({}, MAIL_START, wait=0))
        assert await log_of(two, cursor=cursor) == (Cursor(1, 5), [batch(4, 5)])


async def test_a_broker_that_is_not_there_is_waited_for(fragile: Server) -> None:
    fragile.kill()
    async with open_redis_broker(fragile.url, "one", deadline=DEADLINE) as broker:
        with pytest.raises(BrokerDown, match="not connected"):
            await broker.ping()
        assert broker.up_since is None
        fragile.start()

        with trio.fail_after(WITHIN):
            await broker.wait_up()

        await broker.ping()


async def test_a_broker_is_closed_whatever_state_it_is_in(fragile: Server) -> None:
    with TaskCensus() as census:
        async with open_node(fragile) as broker, trio.open_nursery() as nursery:
            nursery.start_soon(again, lambda: broker.read({}, MAIL_START, wait=WITHIN))
            await trio.sleep(0.05)
            fragile.stop()
            with trio.move_on_after(0.1):
                await broker.ping()
            nursery.cancel_scope.cancel()
        await census.settled()


async def test_a_connection_that_is_cut_within_a_pipeline_fails_who_waits_and_nobody_else(
    shared_server: SharedServer,
) -> None:
    """Wherever in the replies it is cut: what was told as done is done, and what was not is done
    once when it is asked again."""
    async with (
        open_relay(shared_server.server.port) as relay,
        open_redis_broker(relay.url, "one", LONG, deadline=WITHIN) as broker,
    ):
        await broker.wait_up()
        await again(broker.ping)
        for cut in range(1, 120, 7):
            lease = await own(broker, Ref(f"{cut}", "gen"))
            told: list[int] = []

            async def add(seq: int, lease: Lease, told: list[int]) -> None:
                try:
                    await publish(broker, lease, batch(seq, seq), after=0)
                    told.append(seq)
                except BrokerDown:
                    pass

            relay.bytes_until_cut = cut
            with trio.fail_after(WITHIN):
                async with trio.open_nursery() as nursery:
                    for seq in range(1, 21):
                        nursery.start_soon(add, seq, lease, told)
            assert len(told) < 20 or relay.bytes_until_cut is not None
            relay.bytes_until_cut = None

            await again(lambda lease=lease: publish(broker, lease, batch(1, 20), after=0))

            await again(lambda: broker.read({}, MAIL_START, wait=0))
            cursor, _ = await log_of(broker, lease.ref)
            assert cursor == Cursor(1, 20)


async def test_a_command_that_is_cancelled_at_any_step_leaves_the_replies_in_order(
    shared_server: SharedServer,
) -> None:
    one = await shared_server.port("one")
    lease = await own(one)
    step, seq = 0, 0
    while True:
        step, seq = step + 1, seq + 1
        with trio.CancelScope() as scope:
            at_step = AtStep(step, scope.cancel)
            with at_step:
                await publish(one, lease, batch(seq, seq), after=seq - 1)
                at_step.disarm()

        await publish(one, lease, batch(seq, seq), after=seq - 1)
        assert isinstance(await one.elect(Ref(REF.request, "gen_2"), b"about"), tuple)
        assert await renew(one, lease) == 0
        if not at_step.was_reached:
            break

    assert step > 3
    assert await log_of(one) == (Cursor(1, seq), [batch(n, n) for n in range(1, seq + 1)])


async def test_many_cancelled_callers_cost_no_connection(shared_server: SharedServer) -> None:
    one = await shared_server.port("one")
    lease = await own(one)
    began = one.up_since

    for number in range(500):
        with trio.CancelScope() as scope:
            scope.deadline = trio.current_time() + 0.0001 * (number % 4)
            await renew(one, lease)

    assert await renew(one, lease) == 0
    assert one.up_since == began


async def test_a_reader_that_is_cancelled_keeps_its_connection(shared_server: SharedServer) -> None:
    one = await shared_server.port("one")
    await one.read({}, MAIL_START, wait=0)
    clients = await reader_clients(shared_server)

    for _ in range(200):
        with trio.move_on_after(0.001):
            await one.read({REF: START}, MAIL_START, wait=WITHIN)
    with trio.fail_after(WITHIN):
        await one.read({}, MAIL_START, wait=0)

    assert await reader_clients(shared_server) == clients


async def reader_clients(shared: SharedServer) -> list[bytes]:
    """The ids of the connections that read."""
    clients: bytes = await shared.command("CLIENT LIST")
    return [line.split()[0] for line in clients.splitlines() if b"-reader" in line]


async def test_a_script_that_the_broker_has_forgotten_is_told_again(
    shared_server: SharedServer,
) -> None:
    one = await shared_server.port("one")
    lease = await own(one)
    for seq in range(1, 4):
        await shared_server.command("SCRIPT FLUSH")
        await publish(one, lease, batch(seq, seq), after=seq - 1)

    assert (await log_of(one))[0] == Cursor(1, 3)


async def test_a_letter_of_a_later_version_is_passed_over(shared_server: SharedServer) -> None:
    one = await shared_server.port("one")
    await shared_server.command("XADD", "tp:{0}:n:one:ctl", "*", "w", "dance", "x", "y")
    letter = Letter("cancel", REF, "one")
    await one.send("one", letter)

    assert (await one.read({}, MAIL_START, wait=0)).letters == [letter]


async def test_an_entry_that_cannot_be_read_ends_its_log_and_no_other(
    shared_server: SharedServer,
) -> None:
    one = await shared_server.port("one")
    lease = await own(one)
    await publish(one, lease, batch(1, 2), after=0)
    bad = Ref("bad", "gen")
    for number, fields in enumerate([("x", "y"), ("e", b"\xc1"), ("e", b"\x90"), ("o", b"\x01")]):
        await shared_server.command("DEL", "tp:{0}:bad:gen:l")
        await shared_server.command("XADD", "tp:{0}:bad:gen:l", f"1-{number + 1}", *fields)

        news = await one.read({bad: START, REF: START}, MAIL_START, wait=0)

        assert news.logs[bad][1] == [Ending(0, failed("unreadable"))]
        assert news.logs[REF][1] == [batch(1, 2)]


async def test_nothing_is_asked_of_a_key_of_another_type(shared_server: SharedServer) -> None:
    one, two = await shared_server.port("one"), await shared_server.port("two")
    lease = await own(one)
    await one.open(lease, b"head")
    await two.join(REF)
    await publish(one, lease, batch(1, 3), after=0)
    await two.leave(REF)
    await renew(one, lease)
    await one.finish(lease, COMPLETED, last=3)
    errors: dict[bytes, object] = await shared_server.command("INFO", "errorstats")

    assert b"WRONGTYPE" not in repr(errors).encode()


async def test_a_key_of_another_type_is_told_as_a_refusal(shared_server: SharedServer) -> None:
    one = await shared_server.port("one")
    lease = await own(one)
    await shared_server.command("SET", "tp:{0}:ab12:gen_1:l", "a string")

    with pytest.raises(BrokerRefused, match="wrong kind of value"):
        await publish(one, lease, batch(1, 3), after=0)
    assert await renew(one, lease) == 0


async def test_a_user_that_may_not_is_told_as_a_refusal(shared_server: SharedServer) -> None:
    rules = ("on", ">secret:@/", "~tp:*", "+@all", "-evalsha", "-eval")
    await shared_server.command("ACL SETUSER", "guest", *rules)
    url = f"redis://guest:secret%3A%40%2F@127.0.0.1:{shared_server.server.port}"
    async with open_redis_broker(url, "one") as broker:
        with trio.fail_after(WITHIN):
            await broker.wait_up()

        with pytest.raises(BrokerRefused):
            await broker.elect(REF, b"about")
        await broker.read({}, MAIL_START, wait=0)


async def test_a_wrong_password_is_told(shared_server: SharedServer) -> None:
    url = f"redis://nobody:wrong@127.0.0.1:{shared_server.server.port}"
    async with open_redis_broker(url, "one") as broker:
        with trio.fail_after(WITHIN):
            while True:
                with pytest.raises(BrokerDown) as error:
                    await broker.ping()
                if "invalid username-password" in str(error.value):
                    break
                await trio.sleep(0.01)


async def test_a_database_is_chosen_by_the_url(shared_server: SharedServer) -> None:
    async with open_redis_broker(f"{shared_server.server.url}/3", "one") as broker:
        await broker.wait_up()
        await own(broker)

    assert await shared_server.seconds_left() == {}
    await shared_server.command("SELECT", 3)
    assert len(await shared_server.seconds_left()) == 2


async def test_a_replica_is_no_broker(shared_server: SharedServer) -> None:
    """It is given up, so that the next connection may find the primary."""
    one = await shared_server.port("one")
    await own(one)
    await shared_server.command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(BrokerDown):
            await one.elect(Ref("cd", "gen"), b"about")
        assert one.up_since is None
    finally:
        await shared_server.command("REPLICAOF", "NO", "ONE")
    await again(lambda: one.elect(Ref("cd", "gen"), b"about"))
