"""Who reads kernels and writes to clients: a thread of its own, or the event loop.

The thread is native, never takes the interpreter's lock, and goes on whatever Python does. It needs
to call libzmq itself; where it cannot, the event loop does the same work in its turns.
"""

from __future__ import annotations

import atexit
import os
from functools import lru_cache
from time import monotonic
from typing import NamedTuple

from kernelwire import _native
from kernelwire.sockets.choice import chosen
from kernelwire.sockets.drain import drain

__all__ = ["CHOICES", "ENVIRONMENT", "Driver", "driver", "engine", "running_engine"]

ENVIRONMENT = "KERNELWIRE_DRIVER"
"""Set to ``loop`` to have the event loop do what the engine would."""

CHOICES = ("", "engine", "loop")
"""What it may be; anything but ``loop`` is the engine, where that works."""

STOP_SECONDS = 1.0
"""Time for which the end of the process waits for the engine's."""

_engines: dict[int, _native.Engine | str] = {}
"""By process, its engine, or why it has none: a forked one has no threads of its parent's."""


class Driver(NamedTuple):
    """Whether there is an engine, and why, or why not."""

    engine: bool
    reason: str


@lru_cache(maxsize=1)
def _chosen() -> str:
    return chosen(ENVIRONMENT, CHOICES)


def driver() -> Driver:
    """Find out who reads and writes from now on."""
    if _chosen() == "loop":
        return Driver(engine=False, reason=f"{ENVIRONMENT}=loop is set")
    if not hasattr(_native, "Engine"):
        return Driver(engine=False, reason="there is none for this operating system")
    native, reason = drain()
    if not native:
        return Driver(engine=False, reason=f"libzmq cannot be called natively: {reason}")
    found = engine()
    if found is None:
        return Driver(engine=False, reason=str(_engines[os.getpid()]))
    if not found.is_alive():
        return Driver(engine=False, reason="it has failed, see the log of the server")
    return Driver(engine=True, reason="it runs on a thread of its own")


def engine() -> _native.Engine | None:
    """Return the process' engine, which is started when it is first needed; ``None`` if it cannot be."""
    process = os.getpid()
    if process not in _engines:
        try:
            drain()  # loads libzmq
            _engines[process] = started = _native.Engine(monotonic())
            atexit.register(_stop, process, started)
        except Exception as error:  # whatever is wrong, there is the other way
            _engines[process] = f"it could not be started: {error}"
    return running_engine()


def running_engine() -> _native.Engine | None:
    """Return the process' engine, if it was ever needed."""
    found = _engines.get(os.getpid())
    return found if found is not None and not isinstance(found, str) else None


def _stop(process: int, engine: _native.Engine) -> None:
    if os.getpid() == process:
        engine.stop(STOP_SECONDS)
