"""The engine's side: one HTTP call per generation, as a source of events.

A request goes through here in one line: :class:`UpstreamRequest` (what is asked) -> :class:`Router`
(which upstream is, and which after that) -> :class:`Upstream` (which leaves out what must not
travel) -> :func:`~trioproxy.upstream.call.open_call` (one exchange, over a connection of
:mod:`trioproxy.upstream.transport`) -> a source (:meth:`Upstream.stream`, :meth:`Upstream.whole`)
that the core enters, or :meth:`Upstream.forward` for what is passed through as it is.
"""

from trioproxy.upstream.call import Answer
from trioproxy.upstream.errors import (
    UnknownModel,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamNotStreaming,
    UpstreamRefused,
    UpstreamSilent,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from trioproxy.upstream.headers import answer_headers, passed_back, trace_context
from trioproxy.upstream.request import Head, HeaderPairs, UpstreamRequest
from trioproxy.upstream.roster import Roster, open_roster
from trioproxy.upstream.route import Member, Route, Target
from trioproxy.upstream.router import Router
from trioproxy.upstream.survey import ask_all
from trioproxy.upstream.upstream import Timeouts, Upstream

__all__ = [
    "Answer",
    "Head",
    "HeaderPairs",
    "Member",
    "Roster",
    "Route",
    "Router",
    "Target",
    "Timeouts",
    "UnknownModel",
    "Upstream",
    "UpstreamBroken",
    "UpstreamBusy",
    "UpstreamNotStreaming",
    "UpstreamRefused",
    "UpstreamRequest",
    "UpstreamSilent",
    "UpstreamUnavailable",
    "UpstreamUnreachable",
    "answer_headers",
    "ask_all",
    "open_roster",
    "passed_back",
    "trace_context",
]
