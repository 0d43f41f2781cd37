"""What the self-test of :mod:`kernelwire._compat` has found, for the log and the status report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernelwire._compat import Feature, obstacle, shortcomings

if TYPE_CHECKING:
    from logging import Logger

__all__ = ["obstacle_to", "report", "warn_of_shortcomings"]

_NEEDED = {
    "kernel_websocket_connection_class": (Feature.STREAMS, Feature.CONNECTION),
    "kernel_manager_class": (Feature.STREAMS, Feature.MANAGER),
}
"""What each of kernelwire's classes cannot do without, by the server's trait."""


def obstacle_to(trait: str) -> str:
    """Say why the server keeps its own class; empty where kernelwire's can do its work."""
    return obstacle(*_NEEDED[trait])


def warn_of_shortcomings(log: Logger) -> None:
    """Log what is off, and why, in one line; nothing where nothing is."""
    if found := shortcomings():
        log.warning("kernelwire: %s", "; ".join(map(str, found)))


def report() -> list[str]:
    """Say the same for ``jupyter kernelwire status``."""
    found = [(each.feature.value, each.reason) for each in shortcomings()]
    found = found or [("passed", "every private name that kernelwire uses was found to work")]
    return [
        line
        for result, reason in found
        for line in ("self-test", f"    {result}", f"    because {reason}")
    ]
