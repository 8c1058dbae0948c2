"""The metrics of all workers, through all their changes."""

from __future__ import annotations

import re

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.serving.supervising.staff import Actor, Staff
from trioproxy.serving.supervising.crew import open_crew
from trioproxy.serving.supervising.figures import Figures

TOLD = """\
# HELP calls_total Calls.
# TYPE calls_total counter
calls_total {calls}
# HELP open_calls Now.
# TYPE open_calls gauge
open_calls {open_calls}
"""


def count(actor: Actor, *, calls: int, open_calls: int) -> None:
    actor.figures = TOLD.format(calls=calls, open_calls=open_calls).encode()


async def test_what_is_gone_has_counted_and_no_counter_goes_back(autojump_clock: MockClock) -> None:
    staff, figures = Staff(), Figures()
    async with open_crew(staff.hire, figures.remember) as crew:

        async def told() -> dict[str, float]:
            exposed = (await figures.gather(crew)).decode()
            return {
                name: float(value) for name, value in re.findall(r"^(\w+) (.+)$", exposed, re.M)
            }

        await crew.start(2)
        one, other = staff.actors
        count(one, calls=3, open_calls=2)
        count(other, calls=4, open_calls=1)
        assert await told() == {
            "calls_total": 7,
            "open_calls": 3,
            "trioproxy_workers": 2,
            "trioproxy_worker_restarts_total": 0,
        }

        one.die()
        await wait_all_tasks_blocked()
        assert await told() == {
            "calls_total": 7,
            "open_calls": 1,
            "trioproxy_workers": 1,
            "trioproxy_worker_restarts_total": 1,
        }

        await trio.sleep(5)
        count(staff.actors[2], calls=1, open_calls=1)
        await crew.relieve(lambda: 5.0)
        count(staff.actors[3], calls=10, open_calls=0)
        assert await told() == {
            "calls_total": 3 + 4 + 1 + 10,
            "open_calls": 0,
            "trioproxy_workers": 2,
            "trioproxy_worker_restarts_total": 1,
        }
