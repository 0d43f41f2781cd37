"""Log lines for what may happen with every message."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL = 60.0
"""Seconds for which a subject that has been logged is only counted."""


def shows_debug(log: Any) -> bool:
    """Whether a debug record of ``log`` gets anywhere.

    Jupyter's applications set the level on the handlers: their loggers let everything through, and
    ``isEnabledFor`` is always true.
    """
    if not log.isEnabledFor(logging.DEBUG):
        return False
    logger = getattr(log, "logger", log)  # of an adapter
    while logger is not None:
        if any(handler.level <= logging.DEBUG for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


class Throttle:
    """Logs a subject at once, then at most once in :data:`INTERVAL`, with the number left out."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._subjects: dict[str, tuple[float, int]] = {}

    def failure(self, subject: str, message: str, *args: object) -> None:
        """Log ``message % args`` and the exception being handled; its traceback only for DEBUG."""
        traceback = shows_debug(self._log)
        error = sys.exc_info()[1]
        message += ": %s: %s"
        self.warning(subject, message, *args, type(error).__name__, error, exc_info=traceback)

    def warning(self, subject: str, message: str, *args: object, exc_info: bool = False) -> None:
        """Log ``message % args`` as a warning, unless ``subject`` has been logged just now."""
        now = self._clock()
        last, omitted = self._subjects.get(subject, (-INTERVAL, 0))
        if now - last < INTERVAL:
            self._subjects[subject] = (last, omitted + 1)
            return
        self._subjects[subject] = (now, 0)
        if omitted:
            message += f" ({omitted} more like this in the last {now - last:.0f} s)"
        self._log.log(logging.WARNING, message, *args, exc_info=exc_info)
