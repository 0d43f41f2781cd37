"""Checking, when the server starts, what is configured for kernelwire's classes.

A connection reads its configuration when the first browser connects, long after the server has
started: what is wrong with it would be an error page for each tab. So it is read here once before.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from traitlets import HasTraits, TraitError
from traitlets.config.loader import DeferredConfig, LazyConfigValue

from kernelwire._logging import hide_secrets, shown
from kernelwire.in_use import is_kernelwires

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_server.serverapp import ServerApp
    from traitlets.config import Config, Configurable

__all__ = ["at_least", "check_at_start", "check_connections", "configured", "faults"]


TRAITS = ("kernel_websocket_connection_class", "kernel_manager_class")
"""The server's traits that name a class which may be ours."""


def check_at_start(app: ServerApp, replaced: Mapping[str, Any]) -> None:
    """End the server where a class of ours has a wrong trait, as it does for those of its own.

    ``replaced`` are the classes that are about to be put in place, by the server's traits; of the
    others, those count that were chosen by configuration. From here on secrets are kept out of
    what tornado logs, see ``hide_secrets``.
    """
    given = {name: getattr(app, name) for name in TRAITS if app.trait_has_value(name)}
    classes = [cls for cls in {**given, **replaced}.values() if is_kernelwires(cls)]
    found = [fault for cls in classes for fault in faults(cls, app.config)]
    for fault in found:
        app.log.critical("Bad config encountered during initialization: %s", fault)
    if found:
        app.exit(1)
    if classes:
        hide_secrets()


def check_connections(app: Any) -> None:
    """Raise ``TraitError`` where what ``app`` has configured for its connections is wrong.

    For servers that were told to use the classes, and have the extension switched off: they end
    with it, while they start.
    """
    name = TRAITS[0]
    if not (isinstance(app, HasTraits) and app.has_trait(name) and app.trait_has_value(name)):
        return
    cls = getattr(app, name)
    found = faults(cls, cast("Any", app).config) if is_kernelwires(cls) else []
    if found:
        raise TraitError("; ".join(found))


def faults(cls: type[Configurable], config: Config) -> list[str]:
    """Return what is wrong in ``config`` for ``cls``, its bases' sections included, as text."""
    probe = _probe(cls)
    traits = probe.traits(config=True)
    found = []
    for section in cls.section_names():
        for name, value in config.get(section, {}).items():
            if name not in traits:
                continue
            try:
                _assign(probe, name, value)
            except Exception as error:
                said = shown(repr(_plain(value)))
                found.append(f"{section}.{name} is {said}: {shown(str(error), limit=500)}")
    return found


def configured(cls: type[Configurable], config: Config, name: str) -> Any:
    """Return the value that a trait of ``cls`` would have; its default where that is wrong."""
    probe = _probe(cls)
    for section in cls.section_names():
        if name in config.get(section, {}):
            with suppress(Exception):  # `faults` reports it
                _assign(probe, name, config[section][name])
    return getattr(probe, name)


def _probe(cls: type[Configurable]) -> Configurable:
    """Make an object of ``cls`` that has traits, and nothing else."""
    # Its constructor would want a kernel and a websocket; and nobody is to be told of changes.
    probe = cls.__new__(cls)
    probe.unobserve_all()
    return probe


def _assign(probe: HasTraits, name: str, value: Any) -> None:
    """Give a trait the value that the configuration has for it, as ``Configurable`` does."""
    if isinstance(value, LazyConfigValue):
        value = value.get_value(getattr(probe, name))
    elif isinstance(value, DeferredConfig):
        value = value.get_value(probe.traits()[name])
    setattr(probe, name, value)


def _plain(value: Any) -> Any:
    """Return a value of the command line as it was written."""
    return str(value) if isinstance(value, str) else value


def at_least(proposal: Any, least: float, *, finite: bool = False, zero: str = "") -> Any:
    """Return the value that a trait is to get; raises ``TraitError`` where it is out of range.

    What is no number is out of any range. ``zero`` says what 0 means, where it means something.
    """
    value, name = proposal["value"], proposal["trait"].name
    if math.isnan(value) or value < least or (finite and math.isinf(value)):
        meaning = f" ({zero})" if zero else ""
        kind = "a finite number" if finite else "a number"
        least_of_all = "" if math.isinf(least) else f" of at least {least:g}"
        raise TraitError(f"{name} is {value}, must be {kind}{least_of_all}{meaning}")
    return value
