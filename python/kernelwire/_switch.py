"""``KERNELWIRE=off``: a switch for operators that needs no change of any file."""

from __future__ import annotations

from functools import lru_cache

from kernelwire.sockets.choice import chosen

__all__ = ["OFF_REASON", "VARIABLE", "is_switched_off"]

VARIABLE = "KERNELWIRE"

CHOICES = ("", "on", "off")
"""What it may be: empty and ``on`` mean the same."""

OFF_REASON = f"{VARIABLE}=off is set"


@lru_cache(maxsize=1)
def is_switched_off() -> bool:
    """Return whether the environment of this process has kernelwire switched off."""
    return chosen(VARIABLE, CHOICES) == "off"
