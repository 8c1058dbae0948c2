"""Many processes that serve together: `trioproxy serve --workers`.

The supervisor opens the listening sockets and hands them to its workers as systemd would (see
:mod:`trioproxy.serving.inherited`). Each worker is a whole proxy and a node of a cluster, so that
it does not matter which of them a client comes to. The supervisor serves nobody.

::

    supervise
    ├─ the listening sockets                   held until the end is near
    ├─ open_broker                             only where no other is named: a server, and its task
    └─ open_crew
       └─ nursery
          ├─ a task for each seat              hires anew when who sits there has ended
          └─ a task for each worker            a process and its line; on exit it is killed, reaped

A process of ours dies with the supervisor, however that ends: the kernel sees to it
(:mod:`~trioproxy.serving.supervising.leash`). What a worker has to say (that it is ready, that it
lives, its metrics) goes over a socket that both were born with
(:mod:`~trioproxy.serving.supervising.line`): there is no file, no address and no secret to it.
"""

from trioproxy.serving.supervising.broker import NoBroker, find_program
from trioproxy.serving.supervising.crew import CannotStart
from trioproxy.serving.supervising.place import Place, open_place
from trioproxy.serving.supervising.supervisor import supervise

__all__ = ["CannotStart", "NoBroker", "Place", "find_program", "open_place", "supervise"]
