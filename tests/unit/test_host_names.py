"""Private and optional names of the hosts are used through ``kernelwire._compat`` only.

A test and not a program of ``make check``: what is private is read from the installed hosts, so it
has to run with each version that the tests run with.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import kernelwire
from kernelwire import _compat
from support.host_names import LISTED, Source, package, uses

PACKAGE = Path(kernelwire.__file__).parent

FOREIGN = {
    "attribute": "def f(stream): return stream._write_buffer",
    "attribute of an attribute": "def f(self): return self.stream._write_buffer",
    "assignment": "def f(kernel): kernel._activity_stream = None",
    "name as text": "def f(manager): return getattr(manager, '_kernels', None)",
    "private module": "from jupyter_server._tz import utcnow",
    "private name": "from tornado.websocket import _WebSocketParams",
    "optional name": "from jupyter_client.session import orjson_packer",
    "import that may fail": (
        "try:\n    from tornado.web import new\nexcept ImportError:\n    new = None"
    ),
}
OWN = {
    "own attribute": "class A:\n    def f(self): return self._write_buffer",
    "namesake": "class A:\n    def f(self): self._connection = 1\ndef g(a): return a._connection",
    "public name": "from jupyter_client.session import json_packer",
}


def sample(text: str) -> list[Source]:
    """Sources with a module that does not belong to the package."""
    return [("kernelwire.connection.rate_limit", ast.parse(text))]


def test_package_uses_no_private_name_of_a_host() -> None:
    """Whatever the hosts do not promise stands in ``kernelwire._compat``."""
    assert uses(package(PACKAGE, "kernelwire")) == []


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN)
def test_foreign_name_is_found(text: str) -> None:
    """Each way to use a private or optional name of a host is found."""
    assert len(uses(sample(text))) == 1


@pytest.mark.parametrize("text", OWN.values(), ids=OWN)
def test_own_name_is_let_pass(text: str) -> None:
    """What kernelwire's own classes define is no host's name."""
    assert uses(sample(text)) == []


@pytest.mark.parametrize("use", ["self._update_handler(0)", "super()._update_handler(0)"])
def test_unlisted_hook_is_found(use: str) -> None:
    """A subclass's use of a protected name of its base class is listed, too."""
    text = f"class KernelwireStream:\n    def f(self): {use}"
    (found,) = uses([("kernelwire.sockets.stream", ast.parse(text))])
    assert "_update_handler" in found.what


def test_listed_names_are_used() -> None:
    """No name is listed that nothing depends on any more."""
    text = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    once = {name for name in LISTED if text.count(f"{name}") < 2}
    assert once == set()


def test_listed_names_are_there() -> None:
    """With the installed versions, nothing is turned off."""
    assert _compat.shortcomings() == ()
