"""What is taken away, and which tests are there to notice."""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    """``before``, which occurs once in ``path`` of the package, becomes ``after``; ``tests`` (of
    pytest) must fail."""

    name: str
    path: str
    before: str
    after: str
    tests: tuple[str, ...]


HUB = ("tests/exhaustive/test_hub.py", "tests/laws")
SOCKETS = ("tests/exhaustive/test_sockets.py", "tests/web/test_hostile_sockets.py")
PROXY = ("tests/exhaustive/test_proxy.py", "tests/serving", "tests/web")
NODES = (
    *("tests/cluster/test_node.py", "tests/cluster/test_node_faults.py"),
    *("tests/cluster/test_node_races.py", "tests/exhaustive/test_nodes.py"),
    "tests/cluster/test_programs.py",
)
BROKERS = ("tests/cluster/test_sharing.py", "tests/cluster/test_owning.py")

MUTATIONS = [
    # -- the core ----------------------------------------------------------------------------------
    Mutation(
        "leaving takes a task of its own",
        "fanout/generation.py",
        "            self._leave(subscriber)\n",
        "            token = trio.lowlevel.current_trio_token()\n"
        "            token.run_sync_soon(self._leave, subscriber)\n",
        HUB,
    ),
    Mutation(
        "the registry is told after the cancelling, not with it",
        "fanout/generation.py",
        "        self._on_end(self)\n",
        "        trio.lowlevel.current_trio_token().run_sync_soon(self._on_end, self)\n",
        HUB,
    ),
    Mutation(
        "the outcome is decided when the task ends, not when it is decided",
        "fanout/generation.py",
        "        if self._settle(cancelled(reason)):\n"
        "            self._scope.cancel(reason=reason)\n",
        "        self._scope.cancel(reason=reason)\n",
        HUB,
    ),
    Mutation(
        "a join does not look at the clock",
        "fanout/generation.py",
        "        self._see_expiry()\n        return self.outcome is None\n",
        "        return self.outcome is None\n",
        HUB,
    ),
    Mutation(
        "the linger is a task",
        "fanout/generation.py",
        "        self._scope.deadline = min(self._ends_at, linger_ends_at)\n",
        "        async def linger() -> None:\n"
        "            await trio.sleep(self.linger)\n"
        "            if not self.subscribers:\n"
        '                self.cancel("abandoned")\n'
        "\n"
        "        trio.lowlevel.spawn_system_task(linger)\n",
        HUB,
    ),
    Mutation(
        "the reader waits for its slowest subscriber",
        "fanout/generation.py",
        "                        self._append(arrivals)\n",
        "                        self._append(arrivals)\n"
        "                        while any(one.lag for one in self.subscribers):\n"
        "                            await trio.sleep(1)\n",
        HUB,
    ),
    Mutation(
        "the doorbell carries the token, and a second one finds no room",
        "fanout/subscriber.py",
        "            batch = transcript.read(self.cursor)\n",
        "            batch = transcript.read(max(self.cursor, transcript.last - 1))\n",
        HUB,
    ),
    Mutation(
        "the doorbell is not closed with its subscriber",
        "fanout/generation.py",
        "        subscriber.bell.close()\n",
        "",
        HUB,
    ),
    Mutation(
        "a stream that just ends counts as complete",
        "fanout/generation.py",
        '                    self._settle(failed("truncated"))\n',
        '                    self._settle(Outcome("completed"))\n',
        HUB,
    ),
    Mutation(
        "events are appended after the outcome",
        "fanout/generation.py",
        "        if self.outcome is not None:\n            return  # the outcome was",
        "        if False:\n            return  # the outcome was",
        HUB,
    ),
    Mutation(
        "a source that crashes takes the hub along",
        "fanout/generation.py",
        '        self._settle(failed("internal"))\n',
        '        self._settle(failed("internal"))\n        raise error\n',
        (*HUB, "tests/fanout"),
    ),
    Mutation(
        "the shield has no deadline",
        "fanout/cleanup.py",
        "trio.CancelScope(deadline=trio.current_time() + seconds, shield=True)",
        "trio.CancelScope(shield=True)",
        ("tests/laws/test_law_08_shields.py", "tests/upstream"),
    ),
    # -- the upstream call -------------------------------------------------------------------------
    Mutation(
        "a call that is left does not close its connection",
        "upstream/call.py",
        "    finally:\n        body.close()\n",
        "    finally:\n        pass\n",
        ("tests/upstream", *PROXY),
    ),
    Mutation(
        "a call that is cancelled before its head keeps its place and its socket",
        "upstream/transport/transport.py",
        "            lease.close()\n            raise\n",
        "            raise\n",
        ("tests/upstream", *PROXY),
    ),
    Mutation(
        "a TLS handshake that is cancelled leaves its socket to the garbage collector",
        "upstream/transport/connection.py",
        "        tcp.close()\n        raise\n",
        "        raise\n",
        ("tests/upstream",),
    ),
    Mutation(
        "a place is not given back",
        "upstream/places.py",
        "                self._limiter.release_on_behalf_of(me)\n",
        "                pass\n",
        ("tests/upstream/test_connection_limit.py",),
    ),
    Mutation(
        "a kept connection is used again whatever came over it",
        "upstream/transport/connection.py",
        "        if self._tcp.socket.is_readable:\n            return False\n",
        "",
        ("tests/upstream",),
    ),
    Mutation(
        "what waits inside TLS is not looked for",
        "upstream/transport/connection.py",
        "        return glance.cancelled_caught\n",
        "        return True\n",
        ("tests/upstream",),
    ),
    Mutation(
        "a request is repeated though an answer to it had begun",
        "upstream/transport/transport.py",
        "if body.parser.has_begun or trio.current_time() > give_up_at:",
        "if trio.current_time() > give_up_at:",
        ("tests/upstream",),
    ),
    Mutation(
        "a proxied call's socket is closed by waiting for it",
        "upstream/proxied.py",
        "    finally:\n        connection.close()\n",
        "    finally:\n",
        ("tests/upstream",),
    ),
    Mutation(
        "a proxied body's generators are not read to their end (aclosing is thought to be enough)",
        "upstream/proxied.py",
        "        tidying.push_async_callback(_exhaust, chunks)\n",
        "        tidying.push_async_callback(chunks.aclose)\n",
        ("tests/upstream",),
    ),
    Mutation(
        "proxies of the environment are obeyed",
        "upstream/upstream.py",
        "        if self._trust_env and environment_names_proxy(self._base_url):\n",
        "        if environment_names_proxy(self._base_url):\n",
        ("tests/upstream",),
    ),
    Mutation(
        "the upstream may compress, and hold tokens back",
        "upstream/headers.py",
        '        b"accept-encoding",  # a compressed stream holds tokens back\n',
        "",
        ("tests/upstream", "tests/web"),
    ),
    # -- the client's connection -------------------------------------------------------------------
    Mutation(
        "a write has no deadline",
        "net/stream.py",
        "                    with trio.fail_after(self.write_timeout):\n",
        "                    with trio.CancelScope():\n",
        PROXY,
    ),
    Mutation(
        "a write is shielded, as hypercorn's is",
        "net/stream.py",
        "                    with trio.fail_after(self.write_timeout):\n",
        "                    with trio.CancelScope(shield=True):\n",
        ("tests/laws/test_law_08_shields.py", *PROXY),
    ),
    Mutation(
        "a write that was cut in the middle does not end the connection",
        "net/stream.py",
        "            except trio.Cancelled:\n                self.kill()\n                raise\n",
        "            except trio.Cancelled:\n                raise\n",
        PROXY,
    ),
    Mutation(
        "bytes after a request park the reader",
        "serving/protocol.py",
        "        if isinstance(event, RawData) and (self.is_idle or self.has_whole_request):\n",
        "        if False:\n",
        PROXY,
    ),
    Mutation(
        "the keep-alive timer is started a checkpoint after the request's task was cancelled",
        "serving/protocol.py",
        "        stream, self.stream = self.stream, None\n",
        "        stream, self.stream = self.stream, None\n"
        "        if stream is not None:\n"
        "            await stream.handle(StreamClosed(stream_id=STREAM_ID))\n"
        "        await __import__('trio').lowlevel.checkpoint()\n",
        PROXY,
    ),
    Mutation(
        "HTTP/2 by prior knowledge is let in",
        "serving/protocol.py",
        "                if event.http_version not in HTTP_VERSIONS:\n",
        "                if False:\n",
        ("tests/serving",),
    ),
    Mutation(
        "a connection's crash is everybody's",
        "serving/connection.py",
        '        except* Exception:\n            logger.exception("a connection crashed")\n',
        "",
        ("tests/serving",),
    ),
    Mutation(
        "the request's channel is closed at one end only",
        "serving/inbox.py",
        "        self._take.close()\n        self._put.close()\n",
        "        self._take.close()\n",
        PROXY,
    ),
    Mutation(
        "stuck connections are not killed at the end",
        "serving/proxy.py",
        "            await self.server.wait_closed()\n        self.server.kill_all()\n",
        "            await self.server.wait_closed()\n        await self.server.wait_closed()\n",
        PROXY,
    ),
    # -- the routes --------------------------------------------------------------------------------
    Mutation(
        "what a request acquired is released by its body's end, not by its stack",
        "web/connection.py",
        "        async with AsyncExitStack() as stack:\n"
        "            request.exit_stack = stack\n"
        "            stack.callback(_log, request)\n"
        "            try:\n"
        "                await super().handle_request(nursery, request, send)\n",
        "        if True:\n"
        "            stack = AsyncExitStack()\n"
        "            request.exit_stack = stack\n"
        "            try:\n"
        "                await super().handle_request(nursery, request, send)\n"
        "                await stack.aclose()\n",
        PROXY,
    ),
    Mutation(
        "Quart's own response timeout of a minute",
        "web/app.py",
        '    app.config["RESPONSE_TIMEOUT"] = None  # a stream lasts as long as it lasts\n',
        "",
        PROXY,
    ),
    # -- WebSockets --------------------------------------------------------------------------------
    Mutation(
        "a subscription over a WebSocket is not left with its task",
        "web/session.py",
        "        with subscription.stack, subscription.scope:\n",
        "        with subscription.scope:\n",
        SOCKETS,
    ),
    Mutation(
        "who is silent over a WebSocket is pinged for ever",
        "serving/websocket.py",
        "            if silence >= 2 * interval:\n",
        "            if False:\n",
        SOCKETS,
    ),
    # -- the express lane --------------------------------------------------------------------------
    Mutation(
        "the pump goes on when nothing is lent to it any more",
        "fanout/pump.py",
        "            self._ring()  # so that the task ends\n",
        "            pass\n",
        ("tests/fanout/test_pump.py",),
    ),
    Mutation(
        "who was evicted is written to after its end",
        "fanout/subscriber.py",
        "            generation.pump.give_back(self)",
        "            pass",
        ("tests/fanout/test_pump.py",),
    ),
    Mutation(
        "a crash of the pump is everybody's who lent to it",
        "fanout/pump.py",
        "            self._generation.fail(error)\n        finally",
        "            raise\n        finally",
        ("tests/fanout/test_pump.py",),
    ),
    Mutation(
        "a crash where the courier comes by is everybody's",
        "fanout/pump.py",
        "            self._generation.fail(error)\n            self._return_all()\n",
        "            raise\n",
        ("tests/fanout/test_pump.py",),
    ),
    Mutation(
        "the rest of a part is forgotten",
        "net/stream.py",
        '            data, self.unsent = bytes(self.unsent) + data, memoryview(b"")\n',
        '            self.unsent = memoryview(b"")\n',
        ("tests/serving/test_express.py",),
    ),
    Mutation(
        "a sink that has refused stays lent",
        "fanout/pump.py",
        "                self._return(subscriber)\n                return\n",
        "                return\n",
        ("tests/fanout/test_pump.py",),
    ),
    Mutation(
        "a key that nobody has is let in",
        "gateway/tenants.py",
        "        if found is None or",
        "        if False or",
        ("tests/gateway", "tests/web/test_door.py"),
    ),
    Mutation(
        "an empty key counts",
        "gateway/tenants.py",
        "        if not keys or not all(keys):",
        "        if not keys:",
        ("tests/gateway",),
    ),
    Mutation(
        "a tenant sees everybody's",
        "web/caller.py",
        "return self.is_admin or tenant == self.tenant",
        "return True",
        ("tests/web/test_door.py",),
    ),
    Mutation(
        "a tenant's key goes to the engine",
        "upstream/upstream.py",
        "=self._forward_credentials and not request.withholds_credentials,",
        "=self._forward_credentials,",
        ("tests/web/test_door.py",),
    ),
    Mutation(
        "who gave a password to the browser gave it to every page",
        "web/door.py",
        "        if self._cors.is_own_page(asking):",
        "        if True:",
        ("tests/web/test_door.py",),
    ),
    Mutation(
        "what the engine keeps is every tenant's",
        "web/forwarding.py",
        "            raise Forbidden(",
        "            str(",
        ("tests/web/test_door.py",),
    ),
    # -- several upstreams -------------------------------------------------------------------------
    Mutation(
        "a head is taken for an answer",
        "upstream/router.py",
        "                    await feed.begin()\n",
        "                    pass\n",
        ("tests/upstream/test_router.py",),
    ),
    Mutation(
        "what another would refuse too is asked of it",
        "upstream/router.py",
        "            if not left or not route.targets or not may_follow(error):",
        "            if not left or not route.targets:",
        ("tests/upstream/test_router.py",),
    ),
    Mutation(
        "all at once find out whether an upstream is well again",
        "upstream/breaker.py",
        'state == "half-open" and not is_tried',
        'state == "half-open"',
        ("tests/upstream/test_router.py",),
    ),
    Mutation(
        "whoever leaves while finding out leaves it shut",
        "upstream/breaker.py",
        "            self._tried_until = -math.inf\n\n    def succeed",
        "            pass\n\n    def succeed",
        ("tests/upstream/test_router.py",),
    ),
    Mutation(
        "weights count for nothing",
        "upstream/route.py",
        "    return random.expovariate(target.weight) if target.weight else",
        "    return random.expovariate(1.0) if target.weight else",
        ("tests/upstream/test_router.py",),
    ),
    # -- what is kept ------------------------------------------------------------------------------
    Mutation(
        "an answer that failed is kept",
        "gateway/answers.py",
        '                if arrival.decides.kind == "completed":\n',
        "                if arrival.decides:\n",
        ("tests/gateway/test_answers.py", "tests/web/test_cache.py"),
    ),
    Mutation(
        "an answer that was kept is everybody's",
        "web/calls.py",
        "        same = (asking.tenant, origin.fingerprint)\n",
        '        same = ("", origin.fingerprint)\n',
        ("tests/web/test_cache.py",),
    ),
    # -- limits ------------------------------------------------------------------------------------
    Mutation(
        "a window slides too soon",
        "gateway/rates.py",
        "self._times[0] + WINDOW_SECONDS <= now",
        "self._times[0] + WINDOW_SECONDS / 2 <= now",
        ("tests/gateway/test_rates.py",),
    ),
    Mutation(
        "as many connections get in as like",
        "serving/turnstile.py",
        "        if len(self._inside) >= self.max_connections:\n",
        "        if False:\n",
        ("tests/serving/test_turnstile.py", "tests/serving/test_reloading.py"),
    ),
    Mutation(
        "a page whose name leads here is let in",
        "web/hosts.py",
        "        if not is_own_name(host):\n",
        "        if False:\n",
        ("tests/attacks/test_foreign_pages.py",),
    ),
    # -- an operator's day -------------------------------------------------------------------------
    Mutation(
        "other settings hold for nobody",
        "serving/proxy.py",
        "        self._front.app = app\n",
        "",
        ("tests/serving/test_reloading.py",),
    ),
    Mutation(
        "who waits in a socket that is closed is lost",
        "serving/listener.py",
        "            self.waiting = self._take_waiting()\n",
        "",
        ("tests/serving", "tests/e2e/test_restart.py"),
    ),
    Mutation(
        "the log waits for whoever reads it",
        "telemetry/writer.py",
        "            self._changed.notify()\n\n    def stop",
        "            self._changed.notify()\n"
        "        while self._waiting_bytes:\n"
        "            pass\n\n"
        "    def stop",
        ("tests/telemetry/test_writer.py", "tests/e2e/test_log.py"),
    ),
    # -- a cluster ---------------------------------------------------------------------------------
    Mutation(
        "what is told comes before its head",
        "cluster/owning.py",
        "        if owned.is_open and owned.publication.subscriber is not None:\n",
        "        if owned.publication.subscriber is not None:\n",
        NODES,
    ),
    Mutation(
        "the last reader elsewhere leaves, and nothing ends",
        "cluster/owning.py",
        "                owned.parting.be_in(0.0)\n",
        "                pass\n",
        NODES,
    ),
    Mutation(
        "whoever is fenced goes on telling",
        "cluster/owning.py",
        "        if self._forget(owned):\n            self._watch.fenced(owned.generation)\n",
        "        if False:\n            self._watch.fenced(owned.generation)\n",
        ("tests/cluster/test_watching.py",),
    ),
    Mutation(
        "what the broker has lost is not restored",
        "cluster/owning.py",
        '        self.errands.run(self.errands.try_to, ask, name="restoring in the cluster")\n',
        "",
        NODES,
    ),
    Mutation(
        "an election that nobody waits for any more holds its request",
        "cluster/node.py",
        "            unbegun.give_back(Lease(ref, 1), None)  # it may have been elected unheard\n",
        "",
        NODES,
    ),
    Mutation(
        "what was elected and not begun holds its request",
        "cluster/node.py",
        "                self._lane(lease.ref.request).owner.unbegun.give_back(lease, why)\n",
        "                pass\n",
        NODES,
    ),
    Mutation(
        "whoever leaves tells so though another has come",
        "cluster/node.py",
        "                if ref not in lane.follower.followed:  # by who came meanwhile\n",
        "                if True:\n",
        NODES,
    ),
    Mutation(
        "a stop is for those who are here",
        "cluster/node.py",
        "            lane.owner.errands.run(_insist, lane, send, "
        'name=f"stopping of {generation.id}")\n',
        "            pass\n",
        (*NODES, "tests/cluster/test_asking.py", "tests/cluster/test_wide.py"),
    ),
    Mutation(
        "whoever was asleep judges others",
        "cluster/heartbeat.py",
        "        return since is not None and trio.current_time() - since"
        " > 1.5 * self.broker.terms.lease\n",
        "        return since is not None\n",
        NODES,
    ),
    Mutation(
        "a new memory is elected in before it is restored",
        "cluster/heartbeat.py",
        "            await trio.sleep(max(0.0, self.broker.terms.lease / 3 - age))\n",
        "",
        NODES,
    ),
    Mutation(
        "an owner that is gone is waited for",
        "cluster/heartbeat.py",
        "                    nursery.start_soon(tried, partial(self.reap, followed.ref))\n",
        "                    pass\n",
        NODES,
    ),
    Mutation(
        "an interest that has run out is not noticed",
        "cluster/heartbeat.py",
        "                    nursery.start_soon(tried, partial(self._come_back, followed))\n",
        "                    pass\n",
        NODES,
    ),
    Mutation(
        "whether it can be closed is asked once",
        "cluster/parting.py",
        "                await trio.sleep(PAUSE)\n        return True\n",
        "                return True\n        return True\n",
        NODES,
    ),
    Mutation(
        "who comes while the broker is asked is too late",
        "cluster/parting.py",
        "        elif self._is_deserted() and "
        "(self._at is None or self._at <= trio.current_time()):\n",
        "        elif self._is_deserted() or True:\n",
        NODES,
    ),
    Mutation(
        "what was lost while it was written counts as written",
        "cluster/publishing.py",
        "        if self.written == addition.after:\n",
        "        if True:\n",
        ("tests/cluster/test_publishing.py", *NODES),
    ),
    Mutation(
        "what was published twice is read twice",
        "cluster/entries.py",
        "                if first <= cursor.seq:\n",
        "                if False:\n",
        ("tests/cluster/test_entries.py",),
    ),
    Mutation(
        "what is missing of a log is not told",
        "cluster/entries.py",
        "                if first > cursor.seq + 1:\n",
        "                if False:\n",
        ("tests/cluster/test_entries.py",),
    ),
    Mutation(
        "a read that nobody waits for holds up the next",
        "cluster/lane.py",
        "        if self._read is not None and not self._read.complete:\n",
        "        if False:\n",
        (*BROKERS, "tests/cluster/test_redis_faults.py"),
    ),
    Mutation(
        "an entry is written again",
        "cluster/scripts/publish.lua",
        "  elseif last < seq then\n",
        "  else\n",
        BROKERS,
    ),
    Mutation(
        "a fence keeps nobody out",
        "cluster/scripts/prelude.lua",
        "  if fence and fence ~= held then return {'fenced', held} end\n",
        "",
        BROKERS,
    ),
    Mutation(
        "interest holds for ever",
        "cluster/scripts/prelude.lua",
        "  redis.call('ZREMRANGEBYSCORE', interest, '-inf', at)\n",
        "",
        BROKERS,
    ),
    Mutation(
        "a tenant's limit is each node's",
        "web/shared_limits.py",
        "                await stack.enter_async_context("
        "holder.hold(account, most, patience=PATIENCE))\n",
        "                pass\n",
        ("tests/web/test_shared_limits.py", "tests/cluster/test_limits.py"),
    ),
    Mutation(
        "who was not let in is counted",
        "web/shared_limits.py",
        '                self._node.give_back(Account(tenant, "requests"), pace, spent)\n',
        "                pass\n",
        ("tests/web/test_shared_limits.py", "tests/cluster/test_limits.py"),
    ),
    # -- many workers ------------------------------------------------------------------------------
    Mutation(
        "workers outlive their supervisor",
        "serving/supervising/leash.py",
        "ctypes.CDLL(None).prctl(1, signal.SIGKILL)",
        "pass",
        ("tests/serving/supervising/test_leash.py",),
    ),
    Mutation(
        "a seat is taken twice",
        "serving/supervising/crew.py",
        "                if seat.worker is worker and not self._is_ending:\n",
        "                if not self._is_ending:\n",
        ("tests/serving/supervising/test_crew.py",),
    ),
    Mutation(
        "what a worker has counted is gone with it",
        "serving/supervising/figures.py",
        "        self._past = sum_expositions([self._past, past])\n",
        "",
        ("tests/serving/supervising/test_figures.py",),
    ),
]
