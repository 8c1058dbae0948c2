"""A testing kit for Trio programs: who is still alive, and what if it is cancelled *here*.

* :class:`TaskCensus` names every task, nursery, cancel scope and memory channel that was made
  within it and is still alive, with the traceback of its making; and file descriptors.
* :func:`cancel_at_every_checkpoint` runs a scenario again and again, each time cancelling it one
  step later; :func:`fail_at_every_io` does the same with errors. Both print the call that repeats
  a failure.
* :class:`~trioproxy.testing.network.VirtualNetwork` is TCP in memory, so that clients, servers and
  the time between them are all in one run, the same run each time.

None of these is about this proxy: they serve any program that runs on Trio. On top of them,
:class:`~trioproxy.testing.upstream.ScriptedUpstream` is an engine that says what a test lets it
say, and :func:`~trioproxy.testing.proxy.open_virtual_proxy` the whole proxy on a virtual network.
"""

from trioproxy.testing.census import Alive, Leaked, TaskCensus
from trioproxy.testing.everywhere import Violation, cancel_at_every_checkpoint, fail_at_every_io
from trioproxy.testing.trial import Trial

__all__ = [
    "Alive",
    "Leaked",
    "TaskCensus",
    "Trial",
    "Violation",
    "cancel_at_every_checkpoint",
    "fail_at_every_io",
]
