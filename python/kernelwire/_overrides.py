"""What subclasses, and instances, have of their own in the place of what is kernelwire's."""

from __future__ import annotations

from functools import lru_cache
from inspect import getattr_static
from typing import Any

__all__ = ["overrides"]


@lru_cache(maxsize=64)
def _of_class(cls: type, ours: type, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(
        name for name in names if getattr_static(cls, name) is not getattr_static(ours, name)
    )


def overrides(instance: Any, ours: type, names: tuple[str, ...]) -> list[str]:
    """Return which of ``names`` an instance of ``ours``, or its class, overrides."""
    own = (name for name in names if name in vars(instance))
    cls: Any = type(instance)
    return [*_of_class(cls, ours, names), *own]
