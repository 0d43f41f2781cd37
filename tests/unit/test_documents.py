"""What the documents name exists, where they lead to is there, and what they show works."""

from __future__ import annotations

import doctest
import re
import runpy
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.serverapp import ServerApp
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from traitlets.config import Config

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


PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (ROOT, ROOT / "docs", ROOT / "benches", ROOT / "rust" / "engine" / "tests")
    for path in folder.glob("*.md")
)
LINK = re.compile(r"\]\((?!https?://)([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = HEADING.findall(FENCE.sub("", page.read_text()))
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


class TestLinks:
    """Links between documents, on GitHub and on PyPI."""

    @pytest.mark.parametrize("page", PAGES)
    def test_each_leads_somewhere(self, page: str) -> None:
        """A file that was moved, or a heading that was reworded, leaves its links behind."""
        here = ROOT / page
        broken = []
        for link in LINK.findall(FENCE.sub("", here.read_text())):
            path, _, anchor = link.partition("#")
            there = (here.parent / path).resolve() if path else here
            if not there.exists() or (anchor and anchor not in anchors(there)):
                broken.append(link)
        assert broken == []

    def test_readme_has_links_that_work_on_pypi(self) -> None:
        """There are no files beside it there: a release makes them absolute."""
        absolute = runpy.run_path(str(ROOT / ".ci" / "absolute_links.py"))["absolute"]
        readme = (ROOT / "README.md").read_text()
        address = "https://example.org/blob/v1"
        text = absolute(readme, address + "/")
        assert LINK.findall(text) == []
        assert f"]({address}/docs/scaling-out.md)" in text
        assert f"]({address}/docs/recording.gif?raw=true)" in text
        assert text.replace(f"{address}/", "").replace("?raw=true", "") == readme
        assert absolute("[a](#b) [c](https://d)", address) == "[a](#b) [c](https://d)"


SECTIONS: dict[str, Any] = {
    cls.__name__: cls
    for ours in (
        KernelwireWebsocketConnection,
        KernelwireGatewayConnection,
        KernelwireMappingKernelManager,
        ServerApp,
        GatewayClient,
    )
    for cls in ours.mro()
    if hasattr(cls, "class_traits")
}
ELSEWHERE = {"KernelGatewayApp", "Spawner", "Voila", "VoilaConfiguration"}
"""Sections of programs that are not installed everywhere."""

BLOCK = re.compile(r"^ *```python\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(block, id=f"{page}-{number}")
    for page in PAGES
    for number, block in enumerate(BLOCK.findall((ROOT / page).read_text()))
]


class TestExamples:
    """Examples run, and what they configure exists."""

    @pytest.mark.parametrize("example", EXAMPLES)
    def test_each_runs(self, example: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """An example that is copied must not end in an error."""
        monkeypatch.setattr("kernelwire.ipykernel.keep_output", lambda: None)
        config = Config()
        # What is on the page before it, or in the reader's program.
        given = {"c": config, "kernel_manager": MagicMock(), "kernel_id": "", "callback": print}
        exec(compile(example.replace("\n...\n", "\n"), "example", "exec"), given)
        for section, traits in config.items():
            if section not in ELSEWHERE:
                unknown = traits.keys() - SECTIONS[section].class_traits(config=True).keys()
                assert unknown == set(), section

    def test_some_are_found(self) -> None:
        """The pattern still finds them."""
        assert len(EXAMPLES) > 8

    @pytest.mark.parametrize("name", ["kernelwire.kernels.manager"])
    def test_docstrings_run(self, name: str) -> None:
        """Those of docstrings likewise."""
        names = {"RemoteMappingKernelManager": AsyncMappingKernelManager}
        found = doctest.testmod(import_module(name), extraglobs=names, report=True)
        assert found.attempted > 0
        assert found.failed == 0
