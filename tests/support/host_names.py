"""Finds private names of the hosts in kernelwire's sources.

A name is private if it begins with one underscore, and a host's if any of the host's installed
sources sets or defines it. Through ``self`` in a class that inherits from a host's, such a name
must be listed in ``kernelwire._compat``; everywhere else it must not be used outside of that
package, unless it is only a namesake of something that kernelwire defines.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from functools import cache, lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kernelwire import _compat

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTS = ("tornado", "zmq", "jupyter_client", "jupyter_server", "ipykernel", "traitlets")
LISTED = frozenset(name.name for host in _compat.HOSTS for name in host.NAMES)
BY_NAME = ("getattr", "hasattr", "setattr", "delattr")
"""Functions that are given a name as text, behind the object that has it."""

NAMEDTUPLE = frozenset(("_asdict", "_field_defaults", "_fields", "_make", "_replace"))
"""Documented, and only spelled like private ones."""

Source = tuple[str, ast.Module]
"""A module's name and its parsed text."""


class Use(NamedTuple):
    """A private name of a host where it must not be."""

    module: str
    line: int
    what: str


def is_private(name: str) -> bool:
    """Whether a name begins with one underscore, and is not just that."""
    begins = name.startswith("_") and not name.startswith("__") and name != "_"
    return begins and name not in NAMEDTUPLE


def is_hosts(module: str | None) -> bool:
    """Whether a module is one of the hosts'."""
    return (module or "").split(".")[0] in HOSTS


def package(root: Path, name: str) -> list[Source]:
    """Parse a package's modules, but for its tests."""
    sources = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if "tests" in parts or "test" in parts:
            continue
        dotted = ".".join([name, *(part for part in parts if part != "__init__")])
        sources.append((dotted, ast.parse(path.read_text())))
    return sources


def defined(tree: ast.AST, *, on: tuple[str, ...] | None = None) -> Iterator[str]:
    """Give the private names that a tree defines; of attributes, those set on the names in ``on``.

    Without ``on``, those of anything.
    """
    for node in ast.walk(tree):
        name = ""
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            name = node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            name = node.attr if on is None or owner in on else ""
        if is_private(name):
            yield name


@lru_cache(maxsize=1)
def host_names() -> frozenset[str]:
    """The private names that the installed hosts define."""
    names: set[str] = set()
    for host in HOSTS:
        spec = find_spec(host)
        if spec is None or spec.origin is None:
            continue
        for _, tree in package(Path(spec.origin).parent, host):
            names.update(defined(tree))
    return frozenset(names)


@cache
def inherited(module: str, class_name: str) -> frozenset[str]:
    """The private names that a class, or one that it is mixed into, has from a host's class."""
    cls = getattr(sys.modules.get(module) or import_module(module), class_name, None)
    if not isinstance(cls, type):
        return frozenset()
    family = {
        base for each in _subclasses(cls) for base in each.__mro__ if is_hosts(base.__module__)
    }
    names: set[str] = set()
    for base in family:
        source = textwrap.dedent(inspect.getsource(base))
        names |= {*filter(is_private, vars(base)), *defined(ast.parse(source), on=("self", "cls"))}
    return frozenset(names)


def _subclasses(cls: type) -> Iterator[type]:
    yield cls
    for each in cls.__subclasses__():
        if each.__module__.startswith(cls.__module__.split(".")[0]):
            yield from _subclasses(each)


class Checker(ast.NodeVisitor):
    """Finds what one module uses."""

    def __init__(self, source: Source, ours: set[str]) -> None:
        self.module, tree = source
        self.foreign = (host_names() - ours) | {name for name in LISTED if is_private(name)}
        self.hooks: list[frozenset[str]] = [frozenset()]
        self.uses: list[Use] = []
        self.visit(tree)

    def found(self, node: ast.expr | ast.stmt, what: str) -> None:
        """Note a use."""
        self.uses.append(Use(self.module, node.lineno, what))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Look into a class, whose own private names are those of its base classes as well."""
        self.hooks.append(inherited(self.module, node.name))
        for name in defined(ast.Module(node.body, [])):
            self._check_hook(node, name)
        self.generic_visit(node)
        self.hooks.pop()

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Look at an attribute."""
        if is_private(node.attr):
            if _is_own(node.value):
                self._check_hook(node, node.attr)
            elif node.attr in self.foreign:
                self.found(node, ast.unparse(node))
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """Look at an attribute that is given as text."""
        named = isinstance(node.func, ast.Name) and node.func.id in BY_NAME
        if named and isinstance(node.args[1], ast.Constant):
            name = node.args[1].value
            if _is_own(node.args[0]):
                self._check_hook(node, name)
            elif name in self.foreign:
                self.found(node, ast.unparse(node))
        self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Look at an import."""
        if is_hosts(node.module):
            parts = [*str(node.module).split("."), *(alias.name for alias in node.names)]
            if any(is_private(part) or part in LISTED for part in parts):
                self.found(node, ast.unparse(node))

    def visit_Try(self, node: ast.Try) -> None:
        """Look at imports that may fail: those of names that only some versions have."""
        handled = [ast.unparse(handler.type) for handler in node.handlers if handler.type]
        if any("ImportError" in kinds for kinds in handled):
            for child in node.body:
                if isinstance(child, ast.ImportFrom) and is_hosts(child.module):
                    self.found(child, ast.unparse(child))
        self.generic_visit(node)

    def _check_hook(self, node: ast.expr | ast.stmt, name: str) -> None:
        if name in self.hooks[-1] and name not in LISTED:
            self.found(node, f"{name}, which the base class has")


def _is_own(value: ast.expr) -> bool:
    """Whether an expression is ``self``, ``cls`` or ``super()``."""
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id == "super"
    return isinstance(value, ast.Name) and value.id in ("self", "cls")


def uses(sources: list[Source]) -> list[Use]:
    """Find every private name of a host that is used outside of ``kernelwire._compat``."""
    ours = {name for _, tree in sources for name in defined(tree, on=("self", "cls"))}
    checked = [
        source for source in sources if ".".join(source[0].split(".")[:2]) != _compat.__name__
    ]
    for module, _ in checked:
        import_module(module)
    return [use for source in checked for use in Checker(source, ours).uses]
