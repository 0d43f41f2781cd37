"""Wheels and source distributions of the repository, built one at a time."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "target"


def maturin(*options: str, directory: Path = ROOT) -> None:
    """Run maturin without network; what earlier builds left in ``target`` makes it quick.

    Other processes wait: maturin moves what cargo has built, so that a second build at the same
    time does not find it.
    """
    TARGET.mkdir(exist_ok=True)
    environment = os.environ | {"CARGO_NET_OFFLINE": "true", "CARGO_TARGET_DIR": str(TARGET)}
    program = Path(sys.executable).parent / "maturin"
    with (TARGET / "maturin.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            [str(program), *options],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
