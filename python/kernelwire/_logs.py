"""Log lines for what may happen with every message."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL = 60.0
"""Seconds for which a subject that has been logged is only counted."""


class Throttle:
    """Logs a subject at once, then at most once in :data:`INTERVAL`, with the number left out."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._subjects: dict[str, tuple[float, int]] = {}

    def failure(self, subject: str, message: str, *args: object) -> None:
        """Log ``message % args`` and the exception being handled; its traceback only for DEBUG."""
        traceback = self._log.isEnabledFor(logging.DEBUG)
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
