"""Names of the hosts that are private, or that only some of their versions have.

tornado, pyzmq, jupyter_client and jupyter_server promise nothing about these names. Everything of
the kind that kernelwire uses stands in this package: reached through a function, or listed as a
hook that its subclasses use on themselves. ``tests/unit/test_host_names.py`` fails for any other.

:func:`shortcomings` tries them out, once for the process. What a missing name turns off is exactly
what needs it, and the server goes on without.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from kernelwire._compat import jupyter, pyzmq, tornado
from kernelwire._compat._names import Feature, HostName, Shortcoming
from kernelwire._compat._probing import in_a_loop

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["HOSTS", "Feature", "HostName", "Shortcoming", "is_off", "obstacle", "shortcomings"]

HOSTS: tuple[ModuleType, ...] = (tornado, pyzmq, jupyter)
"""One module for each host, with its ``NAMES`` and ``find_missing``."""


@lru_cache(maxsize=1)
def shortcomings() -> tuple[Shortcoming, ...]:
    """Try out every name, once for the process; see :func:`find_shortcomings`."""
    return find_shortcomings()


def find_shortcomings() -> tuple[Shortcoming, ...]:
    """Try out every name, and return what must do without; takes a few milliseconds.

    Runs in a thread of its own: the caller may have an event loop, running or not, which has
    nothing to do with this.
    """
    found = in_a_loop([host.find_missing for host in HOSTS])
    lost: dict[Feature, list[str]] = {}
    for host, missing in zip(HOSTS, found, strict=True):
        if isinstance(missing, BaseException):
            for feature in {name.turns_off for name in host.NAMES if name.turns_off}:
                lost.setdefault(feature, []).append(f"the self-test failed: {missing!r}")
            continue
        for name in host.NAMES:
            if name.name in missing and name.turns_off is not None:
                found_in = f"{name.distribution} {version(name.distribution)}"
                lost.setdefault(name.turns_off, []).append(f"{found_in} has no {name}")
    return tuple(
        Shortcoming(feature, ", ".join(lost[feature])) for feature in Feature if feature in lost
    )


def is_off(*features: Feature) -> bool:
    """Whether one of ``features`` must do without a name that it needs."""
    return any(shortcoming.feature in features for shortcoming in shortcomings())


def obstacle(*features: Feature) -> str:
    """Say why one of ``features`` is off; empty where none is."""
    reasons = (found.reason for found in shortcomings() if found.feature in features)
    return next(reasons, "")
