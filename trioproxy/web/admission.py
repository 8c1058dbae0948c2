"""Whether what is asked for anew may begin: is it too large, too often, or too much for now."""

from __future__ import annotations

from contextlib import suppress

from trioproxy.config import Settings
from trioproxy.gateway import RateLimited, Rates
from trioproxy.telemetry import LoopLag
from trioproxy.web.places import LimitsOfAll, Ticket
from trioproxy.wire import measure_prompt


class PromptTooLarge(Exception):
    """The call brings more text than one may."""


class Overloaded(Exception):
    """The proxy has enough to do with what runs. ``reason`` says what it is short of."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Admission:
    """Asked before a call is made or joined. What is read on, looked at or stopped need not ask:
    that is as much as was let in before. ``shared`` are the limits of all nodes together, if there
    are others."""

    def __init__(
        self,
        settings: Settings,
        rates: Rates,
        lag: LoopLag,
        shared: LimitsOfAll | None = None,
    ) -> None:
        self._max_prompt = settings.max_prompt
        self._max_lag = settings.max_loop_lag
        self._rates = rates
        self._lag = lag
        self._shared = shared

    def check_prompt(self, body: bytes) -> None:
        """Raise :class:`PromptTooLarge` where the call brings too much text."""
        most = self._max_prompt
        if len(body) > most and measure_prompt(body, up_to=most) > most:
            raise PromptTooLarge(f"the prompt has more than {self._max_prompt:.0f} characters")

    def check_load(self) -> None:
        """Raise :class:`Overloaded` where a new call would slow down those that run."""
        if self._lag.recent > self._max_lag:
            raise Overloaded("lag", "the proxy is busy: try again")

    def count(self, tenant: str, ticket: Ticket | None = None) -> None:
        """Count one request, unless all nodes have: then only for the time when this one is alone.
        Raises :class:`~trioproxy.gateway.RateLimited`."""
        if ticket is None:
            self._rates.take(tenant)
        else:
            ticket.use()
            with suppress(RateLimited):
                self._rates.take(tenant)

    async def let_in(self, tenant: str) -> None:
        """Count one request that nothing is joined or started for. Raises
        :class:`~trioproxy.gateway.RateLimited` and :class:`~trioproxy.web.places.ClusterDown`."""
        if self._shared is None:
            self.count(tenant)
        else:
            async with self._shared.counted(tenant) as ticket:
                self.count(tenant, ticket)
