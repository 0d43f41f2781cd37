"""What the documents name exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelwire import (
    KernelwireGatewayConnection,
    KernelwireMappingKernelManager,
    KernelwireWebsocketConnection,
)

if TYPE_CHECKING:
    from traitlets.config import Configurable

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
HOME = TESTS / "integration"
"""Where COMPATIBILITY.md means a file that it names without a folder."""

NAMED = re.compile(r"`((?:tests/)?[\w/]*test_\w+(?:\.py)?(?:::[\w:]+)?)`")
DEFINED = re.compile(r"^\s*(?:async )?(?:def|class) (\w+)", re.MULTILINE)


def missing(document: str) -> list[str]:
    """The tests that a document names and that do not exist.

    A name without a file belongs to the file that was named before it.
    """
    found: list[str] = []
    file = ROOT
    for name in NAMED.findall(document):
        path, _, function = name.partition("::")
        if path.endswith(".py"):
            file = ROOT / path if "/" in path else HOME / path
        else:
            function = name
        if not file.is_file() or not set(function.split("::")) - {""} <= defined(file):
            found.append(name)
    return found


def defined(file: Path) -> set[str]:
    """The functions and classes of a file."""
    return set(DEFINED.findall(file.read_text()))


class TestNamedTests:
    """COMPATIBILITY.md names a test for each difference."""

    def test_every_one_exists(self) -> None:
        """A row whose test has been renamed or removed promises what nothing checks."""
        document = (ROOT / "COMPATIBILITY.md").read_text()
        assert len(NAMED.findall(document)) > 40  # the pattern still finds them
        assert missing(document) == []

    def test_every_one_of_what_works_together_exists(self) -> None:
        """A row of docs/works-with.md without its test is a promise as well."""
        document = (ROOT / "docs" / "works-with.md").read_text()
        rows = [line for line in document.splitlines() if line.startswith("| ")]
        told = [row for row in rows if not row.startswith(("| what |", "|---"))]
        assert [row for row in told if not NAMED.search(row)] == []
        assert missing(document) == []

    @pytest.mark.parametrize(
        "name",
        ["test_gone.py", "test_limits.py::test_gone", "tests/unit/test_gone.py", "test_gone"],
    )
    def test_one_that_does_not_exist_is_found(self, name: str) -> None:
        """Without a file, with one, in a folder, and as a function of the file before."""
        assert missing(f"`test_limits.py`, `{name}`") == [name]


class TestAddedTraits:
    """Each trait that kernelwire adds is in both tables."""

    @pytest.mark.parametrize(
        "ours",
        [
            KernelwireWebsocketConnection,
            KernelwireGatewayConnection,
            KernelwireMappingKernelManager,
        ],
    )
    def test_readme_and_compatibility_name_it(self, ours: type[Configurable]) -> None:
        """A trait that is named nowhere is not found."""
        upstream = next(base for base in ours.__mro__ if base.__module__.startswith("jupyter_"))
        added = ours.class_traits(config=True).keys() - upstream.class_traits(config=True).keys()
        readme = (ROOT / "README.md").read_text()
        sections = (ROOT / "COMPATIBILITY.md").read_text().split("\n## ")
        (section,) = (each for each in sections if f"`kernelwire.{ours.__name__}`, a sub" in each)
        rows = section.splitlines()
        assert added
        for name in added:
            assert f"| `{ours.__name__}.{name}` |" in readme
            assert sum(f"`{name}`" in row and "| added" in row for row in rows) == 1, name
