"""What builds and publishes releases agrees with what it is made from."""

from __future__ import annotations

import ast
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
SESSION = re.compile(
    r'^@nox\.session\((?:.*name="([\w-]+)")?.*\)\n(?:(?!def ).*\n)*?def (\w+)', re.MULTILINE
)


def sessions() -> set[str]:
    """The sessions of noxfile.py."""
    found = SESSION.findall((ROOT / "noxfile.py").read_text())
    return {name or function for name, function in found}


def pythons() -> list[str]:
    """The Pythons that the package's metadata lists."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: "
    listed = (name.removeprefix(prefix) for name in project["classifiers"] if prefix in name)
    return [version for version in listed if "." in version]


def chroots() -> dict[str, str]:
    """The suites of Debian's that noxfile.py has, and the Python of each."""
    (found,) = re.findall(
        r"^CHROOTS = (\{.*?\})", (ROOT / "noxfile.py").read_text(), re.MULTILINE | re.DOTALL
    )
    return ast.literal_eval(found)


def matrix(workflow: str, job: str) -> dict[str, Any]:
    """The matrix of a job."""
    path = ROOT / ".github" / "workflows" / f"{workflow}.yml"
    return yaml.safe_load(path.read_text())["jobs"][job]["strategy"]["matrix"]


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


def test_pythons_when_listed_then_each_is_tested() -> None:
    """Stops metadata that list a Python which the workflows have left out, or the other way round."""
    assert matrix("ci", "gate")["python"] == pythons()


def test_chroots_when_listed_then_the_weekly_workflow_has_each() -> None:
    """Stops a suite of Debian's that nothing runs, or with a Python that is not listed."""
    assert matrix("weekly", "chroots")["suite"] == list(chroots())
    assert set(chroots().values()) <= set(pythons())


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
