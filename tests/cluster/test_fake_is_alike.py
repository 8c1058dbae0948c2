"""The fake and Valkey, asked the same at random, say the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cluster.brokers import batch, keep_interest, log_of, publish, renew, share_server
from tests.cluster.servers import Server, run_server
from trioproxy.cluster import (
    MAIL_START,
    Account,
    Broker,
    BrokerError,
    Joined,
    Lease,
    Letter,
    Pace,
    Ref,
    Running,
    Spent,
    Terms,
)
from trioproxy.fanout import COMPLETED
from trioproxy.testing.broker import FakeBroker

NODES = ("one", "two", "three")
TERMS = {node: Terms(lease=1000, ttl=2000, retention=3000) for node in NODES}
TERMS["three"] = Terms(lease=0, ttl=2000, retention=3000)  # whatever it holds has run out

FIRST = Ref("a", "g1")
ALIAS = "resp_1"
SURVEY = Ref("survey", "s1")

Operation = Callable[[Broker], Awaitable[object]]
Step = tuple[str, str, Operation]
"""Its name, the node that asks, and what is asked."""


def steps() -> st.SearchStrategy[Step]:
    refs = st.sampled_from([FIRST, FIRST, FIRST, Ref("a", "g2"), Ref("b", "g3")])
    leases = st.builds(Lease, refs, st.sampled_from([1, 1, 1, 2]))
    spans = st.tuples(st.integers(1, 6), st.integers(0, 3)).map(
        lambda span: batch(span[0], span[0] + span[1])
    )
    seqs = st.integers(0, 8)
    aliases = st.sampled_from([None, ALIAS])
    accounts = st.sampled_from([Account("a", "requests"), Account("b", "generations")])
    paces = st.sampled_from([Pace(2), Pace(3), Pace(0.1, burst=3)])
    numbers = st.integers(0, 4)
    asked: dict[str, st.SearchStrategy[Operation]] = {
        "elect": refs.map(lambda ref: lambda at: at.elect(ref, b"about")),
        "reap": refs.map(lambda ref: lambda at: at.reap(ref)),
        "join": refs.map(lambda ref: lambda at: at.join(ref)),
        "revive": refs.map(lambda ref: lambda at: at.join(ref, revive=True)),
        "keep": refs.map(lambda ref: lambda at: keep_interest(at, ref)),
        "leave": refs.map(lambda ref: lambda at: at.leave(ref)),
        "renew": leases.map(lambda lease: lambda at: renew(at, lease)),
        "open": leases.map(lambda lease: lambda at: at.open(lease, b"head")),
        "look": refs.map(lambda ref: lambda at: at.look(ref)),
        "retire": leases.map(lambda lease: lambda at: at.retire(lease)),
        "close": leases.map(lambda lease: lambda at: at.close_if_empty(lease)),
        "publish": st.tuples(leases, spans, seqs, aliases).map(
            lambda args: (
                lambda at: publish(
                    at, args[0], args[1], after=min(args[2], args[1].first), alias=args[3]
                )
            )
        ),
        "resolve": st.just(lambda at: at.resolve(ALIAS)),
        "finish": st.tuples(leases, seqs).map(
            lambda args: lambda at: at.finish(args[0], COMPLETED, last=args[1])
        ),
        "restore": st.tuples(leases, st.none() | spans).map(
            lambda args: (
                lambda at: at.restore(args[0], b"about", b"", args[1], is_wanted=args[0].fence == 1)
            )
        ),
        "send": refs.map(lambda ref: lambda at: at.send("two", Letter("cancel", ref, at.node))),
        "spend": st.tuples(accounts, paces).map(lambda args: lambda at: at.spend(*args)),
        "give back": st.tuples(accounts, paces).map(lambda args: lambda at: return_one(at, *args)),
        "hold": st.tuples(accounts, numbers, numbers).map(lambda args: lambda at: at.hold(*args)),
        "keep holding": st.tuples(accounts, numbers).map(
            lambda args: lambda at: at.keep_holding(*args)
        ),
        "log": refs.map(lambda ref: lambda at: log_of(at, ref)),
        "mail": st.just(letters),
        "ping": st.just(lambda at: at.ping()),
        "depart": st.just(lambda at: at.depart()),
        "ask": st.sampled_from([None, *NODES]).map(lambda of: lambda at: ask(at, of)),
        "question": st.just(lambda at: at.question(SURVEY)),
        "answer": st.sampled_from(NODES).map(lambda to: lambda at: at.answer(SURVEY, b"42", to=to)),
        "answers": st.just(lambda at: at.answers(SURVEY)),
    }
    return st.one_of(
        [
            st.tuples(st.just(name), st.sampled_from(NODES), operation)
            for name, operation in asked.items()
        ]
    )


async def elect(at: Broker) -> object:
    return await at.elect(FIRST, b"about")


async def return_one(at: Broker, account: Account, pace: Pace) -> object:
    spent = await at.spend(account, pace)
    if spent.is_let_in:
        await at.give_back(account, pace, spent)
    return spent


async def ask(at: Broker, of: str | None) -> object:
    return sorted(await at.ask(SURVEY, b"question", of=of))


async def letters(at: Broker) -> object:
    return (await at.read({}, MAIL_START, wait=0)).letters


async def say(operation: Operation, at: Broker) -> object:
    """What it says, but for times."""
    try:
        result = await operation(at)
    except BrokerError as error:
        return repr(error)
    match result:
        case float():
            return result > 500
        case Joined() | Running():
            return result._replace(lease_left=result.lease_left > 500)
        case Spent(is_let_in, limit, remaining):
            return is_let_in, limit, remaining
        case [cursor, list(parts)]:
            return cursor, [(type(part), *part) for part in parts]
        case _:
            return result


@pytest.fixture(scope="module")
def valkey() -> Any:
    with run_server("valkey") as server:
        yield server


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(NODES), st.lists(steps(), min_size=5, max_size=40))
def test_the_fake_says_what_valkey_says(valkey: Server, first: str, program: list[Step]) -> None:
    async def play() -> None:
        fake = FakeBroker()
        async with share_server(valkey) as shared:
            for number, (name, node, operation) in enumerate([("elect", first, elect), *program]):
                real = await say(operation, await port(shared, node))
                imitated = await say(operation, fake.port(node, TERMS[node]))
                assert real == imitated, f"step {number}: {name} of {node}"
            left = await shared.seconds_left()
            assert left.keys() == fake.memory.seconds_left().keys()
            for key, seconds in fake.memory.seconds_left().items():
                assert abs(left[key] - seconds) < 100, key

    ports: dict[str, Broker] = {}

    async def port(shared: Any, node: str) -> Broker:
        if node not in ports:
            ports[node] = await shared.port(node, TERMS[node])
        return ports[node]

    trio.run(play)
