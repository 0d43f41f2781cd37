"""What the code logs and writes into notebooks is explained in docs/troubleshooting.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from kernelwire.connection.ending import REFUSED, TOO_BIG
from kernelwire.connection.notices import NoticesMixin
from kernelwire.log.backlog import Dropped
from kernelwire.log.kernel_log import LOST

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "python" / "kernelwire"
PAGE = ROOT / "docs" / "troubleshooting.md"

LEVELS = ("info", "warning", "error", "exception", "critical", "log", "failure")
LOGS = ("log", "_log", "gen_log", "app_log", "_failures", "failures")
"""What lines are logged with: a logger, or a `Throttle`, whose first argument is the subject."""

FORMAT = re.compile(r"%(?:\.\d)?[sdrf]")
SHOWN = re.compile(r"`([^`\n]+)`")

PASSED_ON = {
    ("connection/notices.py", "error_message"),  # a notice, see TestNotices
}
"""Lines whose text is made elsewhere, by file and variable."""


def called(node: ast.AST) -> tuple[str, str]:
    """The object of a method call, by its last name, and the method."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return "", ""
    owner = node.func.value
    if isinstance(owner, ast.Call):
        owner = owner.func
    name = getattr(owner, "attr", getattr(owner, "id", ""))
    return "log" if name == "get_logger" else name, node.func.attr


def log_lines() -> Iterator[tuple[str, str]]:
    """Each line of the package's servers and kernels at INFO and above: the file and the format."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith("bench/") or name == "_logging.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            owner, method = called(node)
            if owner in LOGS and method in LEVELS and isinstance(node, ast.Call):
                yield from texts_of(name, node, method, throttled="failures" in owner)


def texts_of(
    name: str, node: ast.Call, method: str, *, throttled: bool
) -> Iterator[tuple[str, str]]:
    """The format of a call: behind the level, or the subject."""
    text = node.args[1] if throttled or method == "log" else node.args[0]
    if isinstance(text, ast.Name) and (name, text.id) in PASSED_ON:
        return
    assert isinstance(text, ast.Constant), f"{name}:{node.lineno}: {ast.unparse(node)}"
    yield name, text.value


def in_page(text: str, page: str) -> bool:
    """Whether a page shows a text; what it stands for where a format has a field is free."""
    pattern = re.compile(r".+".join(map(re.escape, FORMAT.split(text))).removesuffix(r".+"))
    return any(pattern.match(shown) for shown in SHOWN.findall(page))


LINES = sorted(set(log_lines()))


class TestLogLines:
    """Every line at INFO and above is on the page."""

    def test_lines_are_found(self) -> None:
        """A logger of another name would hide its lines."""
        assert len(LINES) > 40
        assert {"gateway/relaying.py", "log/kernel_log.py", "sockets/desk.py"} <= {
            name for name, _ in LINES
        }

    @pytest.mark.parametrize("text", sorted({text for _, text in LINES}))
    def test_each_is_explained(self, text: str) -> None:
        """Stops an operator from searching for a line and finding nothing."""
        assert in_page(text, PAGE.read_text()), text

    def test_one_that_is_not_explained_is_found(self) -> None:
        """The comparison is with whole lines, from their beginning."""
        page = "`Lost connection to Gateway: <id>`"
        assert in_page("Lost connection to Gateway: %s", page)
        assert not in_page("connection to Gateway: %s", page)
        assert not in_page("Lost connection to kernel %s", page)

    def test_no_logger_has_another_name(self) -> None:
        """What is called like a log's method is a log's, or is known to be something else."""
        others = set()
        for path in PACKAGE.rglob("*.py"):
            if "bench" not in path.parts:
                tree = ast.parse(path.read_text())
                found = {called(node) for node in ast.walk(tree)}
                others |= {owner for owner, method in found if method in LEVELS} - set(LOGS)
        # Futures have a method `exception`, and a `Throttle` calls itself.
        futures = {"done", "task", "written", "answered", "relaying", "connected"}
        assert others - futures == {"self"}


class TestNotices:
    """Every notice that a notebook shows is on the page."""

    @pytest.mark.parametrize("why", ["bound", "late", "interrupted", "away"])
    def test_what_was_dropped_is_explained(self, why: str) -> None:
        """Stops a user from being told something that is explained nowhere."""
        said: list[str] = []
        notices = made_notices(said)
        NoticesMixin.tell_skipped(notices, Dropped(12, 3456), b"{}", why)
        assert len(said) == 1
        self.assert_explained(said[0])

    @pytest.mark.parametrize("text", [REFUSED, TOO_BIG, LOST])
    def test_others_are_explained(self, text: str) -> None:
        """The same for what is written once."""
        self.assert_explained(text.replace("{}", "1"))

    @staticmethod
    def assert_explained(text: str) -> None:
        """Find the first line, with any number."""
        line = re.sub(r"\d+", "%d", text.splitlines()[0])
        assert in_page(line, PAGE.read_text()), line


def made_notices(said: list[str]) -> Any:
    """A connection that keeps what it would tell its client."""
    log = SimpleNamespace(warning=lambda *_: None)
    notices: Any = SimpleNamespace(
        log=log, kernel_id="k", max_pending_bytes=1, multi_kernel_manager=None
    )
    notices.emit_dropped = lambda *_: None
    notices._current = lambda trait: trait
    notices._tell = lambda text, *_: said.append(text)
    notices.tell_dropped = lambda *args: NoticesMixin.tell_dropped(notices, *args)
    return notices


class TestRefusals:
    """Every reason with which a connection is refused is on the page."""

    def test_each_is_explained(self) -> None:
        """Stops a client's developer from guessing."""
        trees = (ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py"))
        reasons = [
            reason_of(node.args[2])
            for tree in trees
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "refuse"
        ]
        assert len(reasons) == 5
        page = PAGE.read_text()
        assert [each for each in reasons if not in_page(each, page)] == []


def reason_of(node: ast.expr) -> str:
    """The text of a reason, with `%s` for what is put into it."""
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "%s" for part in node.values
        )
    assert isinstance(node, ast.Constant)
    return str(node.value)
