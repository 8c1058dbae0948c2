"""A blow at every step between the sockets of the whole proxy, and a fault at every I/O: after each
of them, all the laws that can be seen from outside."""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Generator
from functools import partial
from typing import Any

import httpx
import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from werkzeug.routing import Rule

from tests.exhaustive import proxy_scenes as scenes
from tests.exhaustive.proxy_scenes_blows import (
    CONSEQUENCES,
    NOTHING,
    Blow,
    Consequences,
    a_connection_fails,
    all_clients_reset,
    connections_are_killed,
    first_client_closes,
    first_client_half_closes,
    first_client_resets,
    generations_are_cancelled,
    hub_is_closed,
    proxy_is_cancelled,
    upstream_closes,
    upstream_resets,
)
from tests.exhaustive.proxy_scenes_clients import STATUSES
from tests.exhaustive.proxy_scenes_engine import TRUSTING, URL
from tests.exhaustive.proxy_scenes_laws import check_answer, nothing_crashes
from tests.exhaustive.proxy_scenes_stage import TERMS, Play, Scene, Terms, open_scene
from tests.exhaustive.tally import tally
from trioproxy.config import Settings
from trioproxy.testing import Trial, cancel_at_every_checkpoint, fail_at_every_io
from trioproxy.testing.network import VirtualNetwork

BASE: dict[str, Any] = {"upstream": URL, "write_timeout": 4.0}
LONG = 60.0
"""Virtual seconds in which any linger is over, any write has timed out, and any idle connection is
closed."""


async def perform(play: Play, blow: Blow, trial: Trial) -> None:
    terms = TERMS[play]
    network = VirtualNetwork(on_io=trial.io)
    with nothing_crashes():
        async with open_scene(Settings(**BASE | terms.settings), network) as scene:
            tasks = scene.tasks
            with trial.armed(partial(blow, scene)):
                await play(scene)
            await wait_all_tasks_blocked()
            if not terms.lingers:
                check_nothing_is_held(scene)
            await trio.sleep(LONG)
            check_nothing_is_held(scene)
            assert scene.tasks == ([] if scene.is_closing else tasks)
            check_what_was_told(scene, terms, CONSEQUENCES[blow] if trial.struck else NOTHING)
            if not trial.struck:
                check_the_stories(scene, terms)
            hub_is_open = not trial.struck or blow is not hub_is_closed
            await check_the_next(scene, terms, hub_is_open=hub_is_open)
            await check_shutdown_takes_no_time(scene)
    assert list(network.open_endpoints) == []


def check_nothing_is_held(scene: Scene) -> None:
    """Laws 3 and 7: nobody is here any more, so nothing runs and nothing is open."""
    hub, roster, server = scene.proxy.hub, scene.proxy.roster, scene.proxy.server
    assert list(hub.running) == []
    for generation in hub.retained:
        assert generation.outcome is not None
        assert generation.subscribers == set()
        assert generation.waiting == set()
    assert roster.open_calls == 0
    assert server.connections == set()
    assert list(scene.network.open_endpoints) == []


def check_what_was_told(scene: Scene, terms: Terms, consequences: Consequences) -> None:
    """Laws 1, 5 and 10."""
    codes = terms.codes | consequences.codes
    for answer in scene.answers:
        check_answer(answer, codes)
    asked = sum(answer.method == "POST" for answer in scene.answers)
    forwarded = sum(answer.is_forwarded for answer in scene.answers)
    cut_off = sum(any(answer.is_cut_off for answer in each.answers) for each in scene.clients)
    # That its upstream has left, only a cut can tell in an answer that is forwarded.
    assert cut_off <= consequences.breaks + (forwarded if "upstream_broken" in codes else 0)
    started = len(scene.proxy.hub.retained)
    assert started <= asked
    assert scene.engine.upstream.calls <= started + forwarded


def check_the_stories(scene: Scene, terms: Terms) -> None:
    """Where nothing falls: to the word, whichever client came first."""
    stories = [answer.story for answer in scene.answers]
    assert len(stories) == len(terms.stories)
    for expected in terms.stories:
        stories.remove(next(story for story in stories if story in expected.split(" | ")))
    assert scene.engine.upstream.calls == terms.calls


async def check_the_next(scene: Scene, terms: Terms, *, hub_is_open: bool) -> None:
    """Law 11: who comes after all of it is answered; or told, in the words of its API, that the hub
    is closed; or refused by a proxy that is gone."""
    await scene.engine.listen()
    scene.engine.script = terms.next_script
    with scene.client() as client:
        answer = await client.ask()
    check_answer(answer, STATUSES)
    if scene.is_closing:
        assert answer.story == "refused"
    else:
        assert answer.story == ("1 2 3 4 DONE" if hub_is_open else "503 shutting_down")


async def check_shutdown_takes_no_time(scene: Scene) -> None:
    """Nobody is there to be waited for."""
    begins_at = trio.current_time()
    await scene.shut_down()
    assert trio.current_time() == begins_at


CASES: dict[Blow, list[Play]] = {
    first_client_resets: [
        scenes.late_join,
        scenes.last_leave_against_join,
        scenes.linger_expiring_against_join,
        scenes.upstream_that_leaves_before_the_first_event,
        scenes.upstream_that_leaves_after_the_first_event,
        scenes.upstream_that_is_silent,
        scenes.upstream_over_tls,
        scenes.stuck_reader,
        scenes.resume,
        scenes.resume_by_the_generations_url,
        scenes.create_and_read_later,
        scenes.whole_call,
        scenes.two_requests_on_one_connection,
        scenes.forwarded_call,
        scenes.shutdown_that_some_cannot_await,
    ],
    first_client_closes: [
        scenes.join_then_leave,
        scenes.upstream_that_is_not_there,
        scenes.upstream_that_refuses,
    ],
    first_client_half_closes: [
        scenes.slow_reader_is_evicted,
        scenes.client_of_http_1_0,
        scenes.forwarded_call,
    ],
    all_clients_reset: [scenes.late_join, scenes.slow_reader_skips],
    connections_are_killed: [scenes.slow_reader_is_overtaken],
    generations_are_cancelled: [
        scenes.stop_against_completion,
        scenes.upstream_that_leaves_before_the_head,
        scenes.upstream_that_tells_too_little,
        scenes.whole_call,
    ],
    hub_is_closed: [
        scenes.late_join,
        scenes.upstream_that_tells_an_error,
        scenes.create_and_read_later,
    ],
    proxy_is_cancelled: [
        scenes.upstream_that_is_silent,
        scenes.slow_reader_waits,
        scenes.client_of_http_1_0,
        scenes.forwarded_call,
        scenes.shutdown_while_all_can_finish,
    ],
    upstream_resets: [scenes.late_join, scenes.forwarded_call],
    upstream_closes: [scenes.join_then_leave, scenes.upstream_that_is_silent],
}
"""The plays that tell the most of each blow. (All of them with all take some minutes.)"""


@pytest.fixture(autouse=True, scope="module")
def url_builders_are_compiled_once() -> Generator[None]:
    """A proxy starts in each run, builds no URL, and would spend most of its start on compiling how
    to."""
    compile_builder = Rule._compile_builder
    compiled: dict[tuple[str, bool], Any] = {}

    def compile_once(rule: Rule, append_unknown: bool = True) -> Any:
        key = rule.rule, append_unknown
        if key not in compiled:
            compiled[key] = compile_builder(rule, append_unknown)
        return compiled[key]

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Rule, "_compile_builder", compile_once)
        yield


@pytest.fixture(autouse=True)
def engine_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a proxy that calls it with TLS; and no store of certificates is read in each run."""
    monkeypatch.setattr(httpx, "create_ssl_context", lambda *, trust_env: TRUSTING)


@pytest.fixture(autouse=True, scope="module")
def garbage_is_collected_seldom() -> Generator[None]:
    """Thousands of runs leave their cycles behind: they are worth collecting many at a time, and
    without a walk through all that was imported before."""
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(20_000)
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@pytest.mark.parametrize(
    ("play", "blow"),
    [(play, blow) for blow, plays in CASES.items() for play in plays],
    ids=lambda function: function.__name__,
)
def test_all_laws_hold_whatever_falls_and_wherever(play: Play, blow: Blow) -> None:
    tally.checkpoints += cancel_at_every_checkpoint(partial(perform, play, blow))


@pytest.mark.parametrize("play", TERMS, ids=lambda play: play.__name__)
def test_all_laws_hold_whatever_io_fails(play: Play) -> None:
    tally.faults += fail_at_every_io(
        partial(perform, play, a_connection_fails), error=aborted_connection
    )


def aborted_connection() -> OSError:
    """What any call on a socket may raise, ``accept`` included (accept(2))."""
    return ConnectionAbortedError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))
