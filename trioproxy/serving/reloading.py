"""Other settings for a proxy that serves, when somebody asks for them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable

import trio

from trioproxy.config import ConfigError, Settings
from trioproxy.serving.notifying import Notifier

logger = logging.getLogger(__name__)


async def reload_on(
    requests: AsyncIterator[object],
    load: Callable[[], Settings],
    configure: Callable[[Settings], list[str]],
    notifier: Notifier,
) -> None:
    """Each time it is requested, load the settings and have them configured. Where they are wrong
    the log says how, and the old ones stay. ``configure`` returns what holds after a restart only.

    If cancelled, the old ones hold or the new ones: never some of each.
    """
    async for _ in requests:
        notifier.reloading()
        try:
            settings = await trio.to_thread.run_sync(load, abandon_on_cancel=True)
            later = configure(settings)
        except ConfigError as error:
            logger.error("the settings stay as they were: %s", error)
        except Exception:  # whatever it is, what runs must not end for it
            logger.exception("the settings stay as they were")
        else:
            logger.info("the settings were reloaded")
            if later:
                logger.warning("after a restart only: %s", ", ".join(later))
        notifier.ready()
