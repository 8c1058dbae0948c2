"""Whether what is asked for anew may begin: is it too large, too often, or too much for now."""

from __future__ import annotations

from trioproxy.config import Settings
from trioproxy.gateway import Rates
from trioproxy.telemetry import LoopLag
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
    that is as much as was let in before."""

    def __init__(self, settings: Settings, rates: Rates, lag: LoopLag) -> None:
        self._max_prompt = settings.max_prompt
        self._max_lag = settings.max_loop_lag
        self._rates = rates
        self._lag = lag

    def check_prompt(self, body: bytes) -> None:
        """Raise :class:`PromptTooLarge` where the call brings too much text."""
        most = self._max_prompt
        if len(body) > most and measure_prompt(body, up_to=most) > most:
            raise PromptTooLarge(f"the prompt has more than {self._max_prompt:.0f} characters")

    def check_load(self) -> None:
        """Raise :class:`Overloaded` where a new call would slow down those that run."""
        if self._lag.recent > self._max_lag:
            raise Overloaded("lag", "the proxy is busy: try again")

    def count(self, tenant: str) -> None:
        """Count one request. Raises :class:`~trioproxy.gateway.RateLimited`."""
        self._rates.take(tenant)
