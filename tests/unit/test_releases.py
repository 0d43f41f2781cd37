"""What builds and publishes releases agrees with what it is made from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

USED = re.compile(r"uses:\s*(.+)")
PINNED = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[\d.]+")
RUN = re.compile(r"(?:nox --session|\.ci/run) ([a-z][\w -]*?)(?: --|$)", re.MULTILINE)
SESSION = re.compile(r'^@nox\.session\((?:.*name="([\w-]+)")?.*\)\ndef (\w+)', re.MULTILINE)


def sessions() -> set[str]:
    """The sessions of noxfile.py."""
    found = SESSION.findall((ROOT / "noxfile.py").read_text())
    return {name or function for name, function in found}


def recipe() -> dict[str, Any]:
    """The conda recipe, not rendered."""
    return yaml.safe_load((ROOT / "recipe" / "recipe.yaml").read_text())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
class TestWorkflows:
    """What runs with the right to publish."""

    def test_actions_when_used_then_they_are_named_by_their_commit(self, path: Path) -> None:
        """Stops a tag that somebody has moved from running in a release."""
        used = USED.findall(path.read_text())
        assert used
        assert [action for action in used if not PINNED.fullmatch(action)] == []

    def test_sessions_when_run_then_they_exist(self, path: Path) -> None:
        """Stops a workflow that is found to be wrong only when there is a tag."""
        named = {name for names in RUN.findall(path.read_text()) for name in names.split()}
        assert named <= sessions()


def test_wheels_when_published_then_none_may_be_missing() -> None:
    """Stops a release without the wheel of a platform, as a job for it was added or has gone."""
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "wheels.yml").read_text())["jobs"]
    built = len(jobs["wheel"]["strategy"]["matrix"]["include"])
    assert f"-eq {built}\n" in jobs["publish"]["steps"][1]["run"]


def test_sessions_when_named_then_contributors_can_read_of_each() -> None:
    """Stops a check that nobody knows of."""
    assert {"audit", "bench-check", "tests", "wheel"} <= sessions()  # the pattern finds them
    document = (ROOT / "CONTRIBUTING.md").read_text()
    assert sessions() - set(re.findall(r"[`\s]([a-z-]+)`", document)) == set()


def test_recipe_when_bounds_change_then_it_has_them() -> None:
    """Stops a conda package that installs beside a Jupyter Server it does not work with."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    context = recipe()["context"]
    python, *rest = recipe()["requirements"]["run"]
    assert rest == [bound.replace(">=", " >=") for bound in sorted(project["dependencies"])]
    assert python == "python >=${{ python_min }}"
    assert project["requires-python"] == f">={context['python_min']}"


def test_recipe_when_version_changes_then_it_has_it() -> None:
    """Stops a conda package under the version before."""
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]
    assert recipe()["context"]["version"] == workspace["package"]["version"]
