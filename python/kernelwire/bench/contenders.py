"""Who is compared with whom: names for pairs of classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kernelwire.bench.server import STOCK_CONNECTION, STOCK_MANAGER, Server, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelwire.bench.host import Host

BASELINE = "stock"
CONNECTION = "kernelwire.KernelwireWebsocketConnection"
MANAGER = "kernelwire.KernelwireMappingKernelManager"


@dataclass(frozen=True)
class Contender:
    """A connection class, a manager class, and the environment of their server."""

    name: str
    connection: str = ""
    manager: str = STOCK_MANAGER
    environment: dict[str, str] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    """Cases this contender is for; empty means all."""
    without: dict[str, str] = field(default_factory=dict)
    """Cases that this contender cannot do, and why."""
    host: Callable[[Settings], Host] = Server
    """What starts its server."""
    what: str = ""
    """Name and version, for what is no pair of classes."""
    config: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Sections of the server's configuration that make it what it is."""

    def takes_part(self, case: str) -> bool:
        """Whether `case` is run for this contender."""
        return (not self.only or case in self.only) and case not in self.without

    def as_json(self) -> dict[str, Any]:
        """For the result file."""
        if self.what:
            return {"name": self.name, "what": self.what}
        names = ("name", "connection", "manager", "environment", "config")
        return {name: value for name in names if (value := getattr(self, name)) or name != "config"}


STOCK = Contender(BASELINE, STOCK_CONNECTION)
KERNELWIRE = Contender("kernelwire", CONNECTION, MANAGER)


def exists(path: str) -> bool:
    """Whether the class at a dotted path can be imported."""
    module, _, name = path.rpartition(".")
    try:
        return hasattr(import_module(module), name)
    except ImportError:
        return False
