"""What somebody has chosen by an environment variable."""

from __future__ import annotations

import os

from traitlets.log import get_logger

from kernelwire._logging import shown

__all__ = ["chosen"]


def chosen(variable: str, choices: tuple[str, str, str]) -> str:
    """Return the value of ``variable``, in small letters; one that is no choice is warned of.

    ``choices`` are the empty one, the one that it stands for, and the other.
    """
    choice = os.environ.get(variable, "")
    if choice.lower() not in choices:
        _, usual, other = choices
        get_logger().warning(
            "%s is '%s', which means nothing: it may be '%s', '%s' or unset, as which it is taken",
            variable,
            shown(choice),
            other,
            usual,
        )
    return choice.lower()
