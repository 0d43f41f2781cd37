"""Waiting for conditions, never for time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

POLL_SECONDS = 0.01


def wait_until(condition: Callable[[], T], *, what: str, timeout: float = 60.0) -> T:
    """The first true value of `condition()`; `what` names it if the time runs out."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s in vain for {what}; last value {value!r}")
        time.sleep(POLL_SECONDS)
    return value


async def wait_until_async(condition: Callable[[], T], *, what: str, timeout: float = 60.0) -> T:
    """`wait_until` that leaves the event loop running."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s in vain for {what}; last value {value!r}")
        await asyncio.sleep(POLL_SECONDS)
    return value


def run_to_end(body: Callable[[], Awaitable[T]], *, timeout: float = 120.0) -> T:
    """Run `body` on a fresh event loop that must come to an end."""

    async def bounded() -> T:
        begun = time.monotonic()
        result = await asyncio.wait_for(body(), timeout)
        # What is waited for may take the cancellation for an ordinary end.
        if time.monotonic() - begun >= timeout:
            raise TimeoutError(f"not done after {timeout} s")
        return result

    return asyncio.run(bounded())
