"""Log lines for what may happen with every message."""

from __future__ import annotations

import logging
import re
import reprlib
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tornado.httputil import HTTPServerRequest
from tornado.log import app_log, gen_log

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL = 60.0
"""Seconds for which a subject that has been logged is only counted."""


SHOWN_CHARACTERS = 100
"""Characters of a text from outside that a log line shows at most."""

SHOWN_OF_ERRORS = 500
"""Characters of an exception's text that a log line shows at most."""

_PARAMETER = re.compile(r"([?&;]([^=&\s\"'#]*)=)[^&\s\"'#]+")
"""A parameter of an address; its name may be percent-encoded."""

_SECRETS = ("token", "auth", "key", "code", "state", "xsrf")
"""In names of parameters that Jupyter Server hides in its own lines, too."""


def shown(text: object, limit: int = SHOWN_CHARACTERS) -> str:
    """Return a text from outside for a log line: on one line, without controls, cut at ``limit``."""
    text = text if isinstance(text, str) else _BRIEF.repr(text)
    cut = text[:limit]
    plain = cut if cut.isprintable() else "".join(map(_escaped, cut))
    return plain if cut == text else f"{plain}..."


def _escaped(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]


_BRIEF = reprlib.Repr()
"""Shows a value without going through all of it."""


class _Scrubber(logging.Filter):
    """Takes the secrets out of the addresses in what tornado logs of a request that failed."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, rewritten where it has to be."""
        if record.args and isinstance(record.args, tuple):
            record.args = tuple(map(self._scrubbed, record.args))
        return True

    @staticmethod
    def _scrubbed(value: Any) -> Any:
        if isinstance(value, HTTPServerRequest):
            value = repr(value)
        return _PARAMETER.sub(_hidden, value) if isinstance(value, str) else value


def _hidden(parameter: re.Match[str]) -> str:
    """Return a parameter without its value, if that is a secret."""
    name = unquote(parameter[2])
    return f"{parameter[1]}[secret]" if any(each in name for each in _SECRETS) else parameter[0]


def hide_secrets() -> None:
    """Keep tokens out of what tornado logs of requests that fail, from now on, in this process.

    tornado names the address of the request with whatever it logs; Jupyter Server takes the
    secrets out of the lines that it writes itself only.
    """
    for log in (gen_log, app_log):
        if not any(isinstance(each, _Scrubber) for each in log.filters):
            log.addFilter(_Scrubber())


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
        text = shown(str(error), SHOWN_OF_ERRORS)
        self.warning(subject, message, *args, type(error).__name__, text, exc_info=traceback)

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
