"""The source distribution: everything that a wheel is built from, and a wheel built from it."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest

from support.building import maturin

pytestmark = pytest.mark.timeout(600)  # a first build compiles all that the core depends on

ROOT = Path(__file__).parents[2]
SWITCH = "etc/jupyter/jupyter_server_config.d/kernelwire.json"
NEEDED = (
    *("rust", "python", "data", "Cargo.*", "pyproject.toml", "README.md"),
    *("LICENSE", "THIRDPARTY.yml"),
)
NOT_NEEDED = ("rust/fuzz/",)
"""The fuzz targets are outside the workspace and its lock."""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution."""
    out = tmp_path_factory.mktemp("sdist")
    maturin("sdist", "--out", str(out))
    (path,) = out.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        archive.extractall(out, filter="data")
    # Archives have all files of one date, by which cargo would take them for built already.
    for file in out.rglob("*.rs"):
        file.touch()
    (directory,) = (entry for entry in out.iterdir() if entry.is_dir())
    return directory


def files_below(directory: Path) -> set[str]:
    """The files in a directory, by their paths from there."""
    return {
        path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()
    }


def test_sdist_when_made_then_every_tracked_source_is_in_it(unpacked: Path) -> None:
    """Stops a source distribution that lacks a file its build needs."""
    tracked = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", *NEEDED], capture_output=True, text=True, check=True
    )
    wanted = {path for path in tracked.stdout.split() if not path.startswith(NOT_NEEDED)}
    assert "rust/core/src/lib.rs" in wanted
    assert wanted - files_below(unpacked) == set()


def test_lock_when_made_then_it_is_the_repositorys(unpacked: Path) -> None:
    """Stops builds with other dependencies than those that were tested."""
    assert (unpacked / "Cargo.lock").read_bytes() == (ROOT / "Cargo.lock").read_bytes()


def test_sdist_when_made_then_nothing_built_is_in_it(unpacked: Path) -> None:
    """Stops binaries and caches of somebody's checkout from being published."""
    suffixes = (".so", ".pyd", ".dylib", ".pyc", ".whl")
    assert [path for path in files_below(unpacked) if path.endswith(suffixes)] == []


def test_wheel_when_built_from_the_sdist_then_it_has_all_files(
    unpacked: Path, tmp_path: Path
) -> None:
    """Stops a source distribution that cannot be built, or builds a wheel that is never on."""
    maturin("build", "--out", str(tmp_path), directory=unpacked)
    (path,) = tmp_path.glob("*.whl")
    with ZipFile(path) as archive:
        names = archive.namelist()
    modules = files_below(ROOT / "python" / "kernelwire")
    sources = {f"kernelwire/{name}" for name in modules if name.endswith((".py", ".pyi", "typed"))}
    assert sources | {"kernelwire/_native.abi3.so"} <= set(names)
    assert any(name.endswith(".data/data/" + SWITCH) for name in names)
