"""What the self-test of :mod:`kernelwire._compat` has found, for the log and the status report."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from kernelwire._compat import Feature, obstacle, shortcomings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from logging import Logger

    from kernelwire._compat import Shortcoming

__all__ = ["obstacle_to", "report", "warn_of_shortcomings"]

_NEEDED = {
    "kernel_websocket_connection_class": (Feature.STREAMS, Feature.CONNECTION),
    "kernel_manager_class": (Feature.STREAMS, Feature.MANAGER),
}
"""What each of kernelwire's classes cannot do without, by the server's trait."""

_NONE: Mapping[str, str] = MappingProxyType({})


def obstacle_to(trait: str) -> str:
    """Say why the server keeps its own class; empty where kernelwire's can do its work."""
    return obstacle(*_NEEDED[trait])


def warn_of_shortcomings(log: Logger, in_use: Mapping[str, str] = _NONE) -> None:
    """Log what is off, and why, in one line; nothing where nothing is.

    ``in_use`` names kernelwire's classes that the server has, by its trait: some may have been
    chosen whatever is missing.
    """
    if found := shortcomings():
        results = (f"{_result(each, in_use)}, because {each.reason}" for each in found)
        log.warning("kernelwire: %s", "; ".join(results))


def report(in_use: Mapping[str, str] = _NONE) -> list[dict[str, str]]:
    """Return the same for ``jupyter kernelwire status``: results, each with its reason."""
    found = [(_result(each, in_use), each.reason) for each in shortcomings()]
    found = found or [("passed", "every private name that kernelwire uses was found to work")]
    return [{"result": result, "reason": reason} for result, reason in found]


def _result(found: Shortcoming, in_use: Mapping[str, str]) -> str:
    """Say what becomes of what is missing: a class that was chosen stays."""
    names = [name for trait, name in in_use.items() if found.feature in _NEEDED[trait]]
    if not names:
        return found.feature.value
    return f"{' and '.join(names)} may fail, and was chosen all the same"
