"""Who is compared with whom: names for pairs of classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module

from benches.server import STOCK_CONNECTION, STOCK_MANAGER

KERNELWIRE_MANAGER = "kernelwire.KernelwireMappingKernelManager"


@dataclass(frozen=True)
class Contender:
    """A connection class, a manager class, and the environment of their server."""

    name: str
    connection: str
    manager: str = STOCK_MANAGER
    environment: dict[str, str] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    """Cases this contender is for; empty means all."""

    def takes_part(self, case: str) -> bool:
        """Whether `case` is run for this contender."""
        return not self.only or case in self.only


def exists(path: str) -> bool:
    """Whether the class at a dotted path can be imported."""
    module, _, name = path.rpartition(".")
    try:
        return hasattr(import_module(module), name)
    except ImportError:
        return False


def all_contenders() -> dict[str, Contender]:
    """Every contender that can run here, stock first."""
    manager = KERNELWIRE_MANAGER if exists(KERNELWIRE_MANAGER) else STOCK_MANAGER
    connection = "kernelwire.KernelwireWebsocketConnection"
    listed = [
        Contender("stock", STOCK_CONNECTION),
        Contender("stock-nodelay", "benches.plugins.NoDelayConnection", only=("rtt",)),
        Contender("kernelwire", connection, manager),
        Contender("kernelwire-portable", connection, manager, {"KERNELWIRE_DRAIN": "python"}),
    ]
    return {each.name: each for each in listed if exists(each.connection)}


def parse(text: str) -> Contender:
    """Find a contender of the command line: a known name, or ``name=connection[,manager]``."""
    name, separator, classes = text.partition("=")
    if not separator:
        known = all_contenders()
        if name not in known:
            msg = f"no contender {name!r} here; there are {', '.join(known)}"
            raise ValueError(msg)
        return known[name]
    connection, _, manager = classes.partition(",")
    for path in filter(None, (connection, manager)):
        if not exists(path):
            msg = f"{path} cannot be imported"
            raise ValueError(msg)
    return Contender(name, connection, manager or STOCK_MANAGER)
