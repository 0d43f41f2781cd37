"""The wheel: what is in it, and for whom it says it is."""

from __future__ import annotations

import json
import re
import subprocess
from email.parser import Parser
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest
import yaml

from support.building import maturin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

pytestmark = pytest.mark.timeout(600)  # a first build compiles all that the core depends on

ROOT = Path(__file__).parents[2]
SWITCH = "etc/jupyter/jupyter_server_config.d/kernelwire.json"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    """The wheel that the sources as they are now make."""
    out = tmp_path_factory.mktemp("wheel")
    maturin("build", "--out", str(out))
    (path,) = out.iterdir()
    with ZipFile(path) as archive:
        yield archive


def metadata(wheel: ZipFile, name: str) -> Message:
    """One of the wheel's metadata files."""
    (path,) = (path for path in wheel.namelist() if path.endswith(f".dist-info/{name}"))
    return Parser().parsestr(wheel.read(path).decode())


def test_package_when_packed_then_every_tracked_module_is_there(wheel: ZipFile) -> None:
    """Stops a module that works in a checkout and is missing in an installation."""
    tracked = subprocess.run(
        ["git", "-C", str(ROOT / "python"), "ls-files"], capture_output=True, text=True, check=True
    )
    files = tracked.stdout.split()
    assert "kernelwire/__init__.py" in files
    assert set(files) <= set(wheel.namelist())


@pytest.mark.parametrize("name", ["_native.abi3.so", "_native.pyi", "py.typed"])
def test_package_when_packed_then_extension_and_its_types_are_there(
    wheel: ZipFile, name: str
) -> None:
    """Stops a wheel without its native module, or one that type checkers do not look into."""
    assert f"kernelwire/{name}" in wheel.namelist()


def test_extension_when_packed_then_it_is_the_only_one(wheel: ZipFile) -> None:
    """Stops what lies about in a checkout, of another build or platform, from being shipped."""
    natives = [name for name in wheel.namelist() if name.endswith((".so", ".pyd", ".dylib"))]
    assert natives == ["kernelwire/_native.abi3.so"]


def test_switch_when_packed_then_it_is_where_installers_put_it_under_etc(wheel: ZipFile) -> None:
    """Stops a wheel that installs and is never switched on."""
    (path,) = (name for name in wheel.namelist() if name.endswith(".json") and "/data/" in name)
    assert path.partition(".data/data/")[2] == SWITCH
    assert wheel.read(path) == (ROOT / "data/data" / SWITCH).read_bytes()


def test_licence_when_packed_then_its_text_is_there_and_named(wheel: ZipFile) -> None:
    """Stops copies without the terms under which they may be used."""
    about = metadata(wheel, "METADATA")
    (path,) = (name for name in wheel.namelist() if name.endswith("/licenses/LICENSE"))
    assert wheel.read(path) == (ROOT / "LICENSE").read_bytes()
    assert about["License-Expression"] == "BSD-3-Clause"


def test_command_when_installed_then_jupyter_finds_it(wheel: ZipFile) -> None:
    """Stops ``jupyter kernelwire`` from being unknown."""
    (path,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    assert "jupyter-kernelwire=kernelwire.cli:main" in wheel.read(path).decode().replace(" ", "")


def test_tag_when_built_then_one_wheel_serves_all_pythons_from_3_11(wheel: ZipFile) -> None:
    """Stops a wheel for one version of Python only, or for versions it does not run on."""
    (tag,) = metadata(wheel, "WHEEL").get_all("Tag", [])
    assert tag.startswith("cp311-abi3-")
    assert metadata(wheel, "METADATA")["Requires-Python"] == ">=3.11"
    assert "-cp311-abi3-" in Path(wheel.filename or "").name


def test_version_when_built_then_it_is_the_workspaces(wheel: ZipFile) -> None:
    """Stops a release under another version than its sources say."""
    versions = re.findall(r'^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    assert [metadata(wheel, "METADATA")["Version"]] == versions


def test_description_when_built_then_it_is_the_readme(wheel: ZipFile) -> None:
    """Stops an empty page at the package index."""
    about = metadata(wheel, "METADATA")
    assert about["Description-Content-Type"].startswith("text/markdown")
    assert about.get_payload().strip() == (ROOT / "README.md").read_text().strip()


def test_bill_of_materials_when_built_then_it_names_the_crates(wheel: ZipFile) -> None:
    """Stops a native module of which nobody can tell what is in it, and under which licences."""
    (path,) = (name for name in wheel.namelist() if name.endswith(".cyclonedx.json"))
    assert ".dist-info/sboms/" in path
    crates = {each["name"]: each for each in json.loads(wheel.read(path))["components"]}
    assert {"kernelwire-core", "mio", "parking_lot", "pyo3"} <= crates.keys()
    assert all(each.get("licenses") for each in crates.values())


def test_licences_when_packed_then_each_crate_has_its_text(wheel: ZipFile) -> None:
    """Stops copies of crates without the terms that must go with them; ``make licences`` adds them."""
    (path,) = (name for name in wheel.namelist() if name.endswith("/licenses/THIRDPARTY.yml"))
    libraries = yaml.safe_load(wheel.read(path))["third_party_libraries"]
    texts = {
        (each["package_name"], each["package_version"]): [one["text"] for one in each["licenses"]]
        for each in libraries
    }
    (path,) = (name for name in wheel.namelist() if name.endswith(".cyclonedx.json"))
    crates = json.loads(wheel.read(path))["components"]
    # Those that only build the module are not in it.
    linked = {(each["name"], each["version"]) for each in crates if each["scope"] == "required"}
    others = {crate for crate in linked if not crate[0].startswith("kernelwire-")}
    assert {"mio", "parking_lot", "pyo3"} <= {name for name, _ in others}
    assert others - texts.keys() == set()
    assert [crate for crate in others if not texts[crate] or "NOT FOUND" in texts[crate]] == []
