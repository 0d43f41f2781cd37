"""What a private or optional name of a host is, and what depends on it."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["Feature", "HostName", "Shortcoming"]


class Feature(Enum):
    """What may have to be turned off; the value says what happens then."""

    DIRECT_WRITING = "websockets are written by tornado, message by message"
    ENGINE_READING = "the event loop receives from kernels, and not the engine"
    ENGINE_WRITING = "the event loop writes to websockets, and not the engine"
    PENDING_BOUND = "max_pending_bytes is not enforced"
    RELAY = "Jupyter Server's own way to a gateway is used"
    ENGINE_RELAYING = "the event loop passes on what gateways say, and not the engine"
    STREAMS = "Jupyter Server's own connection class and kernel manager are used"
    CONNECTION = "Jupyter Server's own connection class is used"
    MANAGER = "Jupyter Server's own kernel manager is used"


class HostName(NamedTuple):
    """A name that its host does not promise."""

    name: str
    owner: str
    """The class or module that has it."""
    distribution: str
    purpose: str
    """What kernelwire does with it."""
    turns_off: Feature | None
    """What must do without it; ``None`` where there is a substitute."""

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}"


class Shortcoming(NamedTuple):
    """Something that is off, and why."""

    feature: Feature
    reason: str

    def __str__(self) -> str:
        return f"{self.feature.value}, because {self.reason}"
