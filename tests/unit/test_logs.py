"""Log lines for what may happen with every message."""

from __future__ import annotations

import logging

import pytest

from kernelwire._logging import INTERVAL, Throttle, shows_debug


@pytest.fixture
def now() -> list[float]:
    """A clock that is set by hand."""
    return [1000.0]


@pytest.fixture
def throttle(now: list[float], caplog: pytest.LogCaptureFixture) -> Throttle:
    """A throttle that logs where it can be seen."""
    caplog.set_level(logging.WARNING)
    return Throttle(logging.getLogger("test"), lambda: now[0])


def test_warning_when_repeated_then_is_logged_once_and_counted(
    throttle: Throttle, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """Stops a flood of bad messages from becoming a flood of lines, or from being forgotten."""
    for number in range(5):
        throttle.warning("subject", "bad message %d", number)
    assert caplog.messages == ["bad message 0"]
    now[0] += INTERVAL
    throttle.warning("subject", "bad message %d", 9)
    assert caplog.messages[1] == "bad message 9 (4 more like this in the last 60 s)"


def test_warning_when_about_something_else_then_is_logged_too(
    throttle: Throttle, caplog: pytest.LogCaptureFixture
) -> None:
    """Stops one kind of trouble from hiding another."""
    throttle.warning("one", "one")
    throttle.warning("two", "two")
    assert caplog.messages == ["one", "two"]


@pytest.mark.parametrize("level", [logging.WARNING, logging.DEBUG])
def test_failure_when_logged_then_traceback_is_for_debugging(
    throttle: Throttle, caplog: pytest.LogCaptureFixture, level: int
) -> None:
    """Stops tracebacks from filling an operator's log, and from being unavailable."""
    caplog.set_level(level, "test")
    try:
        raise ValueError("why")  # noqa: TRY301 (what is raised is the case)
    except ValueError:
        throttle.failure("subject", "failed on %s", "iopub")
    assert caplog.messages == ["failed on iopub: ValueError: why"]
    assert bool(caplog.records[0].exc_info) == (level == logging.DEBUG)


@pytest.mark.parametrize(
    ("level", "handler_level", "parents_level", "shown"),
    [
        (logging.DEBUG, logging.INFO, None, False),  # as Jupyter's applications have it
        (logging.DEBUG, logging.DEBUG, None, True),
        (logging.DEBUG, logging.INFO, logging.DEBUG, True),
        (logging.INFO, logging.DEBUG, None, False),
        (logging.DEBUG, None, None, False),
    ],
)
def test_shows_debug_when_no_handler_takes_it_then_is_false(
    level: int, handler_level: int | None, parents_level: int | None, shown: bool
) -> None:
    """Stops a log record per message from being made for nobody."""
    log, parent = logging.Logger("child", level), logging.Logger("parent")  # noqa: LOG001 (left to themselves)
    for logger, its_level in ((log, handler_level), (parent, parents_level)):
        if its_level is not None:
            logger.addHandler(logging.NullHandler(its_level))
    log.parent = parent
    assert shows_debug(log) is shown
    assert shows_debug(logging.LoggerAdapter(log, {})) is shown
