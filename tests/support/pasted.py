"""Subclasses with methods whose bodies are copied from the installed Jupyter Server's class."""

from __future__ import annotations

import inspect
import sys
from textwrap import dedent, indent
from types import FunctionType
from typing import Any

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection

UPSTREAM = ZMQChannelsWebsocketConnection
KEPT_OUT = {"close_all"}
"""A class method that is called on the class."""


def overridable() -> list[str]:
    """The names of the methods and properties that upstream's class defines itself."""
    return [
        name
        for name, value in vars(UPSTREAM).items()
        if isinstance(value, (FunctionType, property)) and name not in KEPT_OUT
    ]


def source_of(name: str) -> str:
    """A method's source, with its decorators."""
    value: Any = inspect.getattr_static(UPSTREAM, name)
    function = value.fget if isinstance(value, property) else value
    return dedent(inspect.getsource(function))


def pasted(base: type[Any], *names: str) -> type[Any]:
    """A subclass of ``base`` whose methods of these names do what upstream's do, without `super`."""
    body = "\n".join(indent(source_of(name), "    ") for name in names)
    code = f"from __future__ import annotations\nclass Pasted(Base):\n{body}\n"
    namespace = {**vars(sys.modules[UPSTREAM.__module__]), "Base": base}
    exec(compile(code, f"<{', '.join(names)} of upstream>", "exec"), namespace)
    made: type[Any] = namespace["Pasted"]
    return made
