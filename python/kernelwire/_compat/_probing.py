"""Running the self-test on an event loop, whatever the caller's thread does with its own."""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING

from tornado.ioloop import IOLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

__all__ = ["calls", "in_a_loop"]

TIMEOUT_SECONDS = 10.0
"""Time for one probe: much, as a machine may be busy, and none of it is waiting for others."""


def in_a_loop(
    probes: list[Callable[[], Awaitable[set[str]]]], timeout: float = TIMEOUT_SECONDS
) -> list[set[str] | BaseException]:
    """Run each coroutine function; returns its result or what it has raised."""
    results: list[set[str] | BaseException] = []

    def run() -> None:
        for probe in probes:
            loop = IOLoop(make_current=False)
            try:
                results.append(loop.run_sync(probe, timeout=timeout))
            except Exception as error:
                results.append(error)
            finally:
                loop.close()

    thread = Thread(target=run, name="kernelwire-self-test")
    thread.start()
    thread.join()
    return results


def calls(function: Any) -> frozenset[str]:
    """Return the names of attributes and globals that a function's code reads, sets or calls."""
    code = getattr(function, "__code__", None)
    return frozenset() if code is None else frozenset(code.co_names)
