"""Gives one name of Jupyter's packages another name, in every process that has this on its path.

The packages go on working: it is what a release of theirs might do. The name, or several as a
regular expression, is in the environment variable ``DOCTORED_NAME``.
"""

from __future__ import annotations

import os
import re
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec, spec_from_file_location
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType

HOSTS = ("tornado", "zmq", "jupyter_client", "jupyter_server")
NAME = os.environ.get("DOCTORED_NAME", "")
RENAMED = f"{NAME}_renamed"
get_code = SourceFileLoader.get_code

HIDE_EXTENSION = """
import sys, zmq.backend.cython
del zmq.backend.cython._zmq
sys.modules["zmq.backend.cython._zmq"] = None
"""
"""A compiled module cannot be renamed; where it has been imported, it can be hidden."""


def get_doctored_code(loader: SourceFileLoader, module: str) -> CodeType | None:
    """Compile a module with the name replaced; those that do not have it come from their cache."""
    if module.partition(".")[0] not in HOSTS:
        return get_code(loader, module)
    if NAME == "_zmq":
        if module != "zmq":
            return get_code(loader, module)
        return compile(f"{loader.get_source(module)}{HIDE_EXTENSION}", loader.path, "exec")
    source, count = re.subn(rf"\b({NAME})\b", r"\1_renamed", loader.get_source(module) or "")
    if not count:
        return get_code(loader, module)
    return compile(source, loader.path, "exec", dont_inherit=True)


class RenamedModules:
    """Finds a module whose own name is replaced, and does not find it by its old one."""

    @staticmethod
    def find_spec(module: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """Find a module."""
        package, _, name = module.rpartition(".")
        if name == RENAMED:
            spec = find_spec(package)
            folder = spec.submodule_search_locations if spec else None
            return spec_from_file_location(module, f"{folder[0]}/{NAME}.py") if folder else None
        if name == NAME != "_zmq" and package in HOSTS:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        return None


if NAME:
    SourceFileLoader.get_code = get_doctored_code  # type: ignore[method-assign]
    sys.meta_path.insert(0, RenamedModules)  # type: ignore[arg-type]
