"""The conditions of a run: versions, machine, date, commit."""

from __future__ import annotations

import datetime as dt
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import zmq

SCHEMA = 1
"""Of the result files; raise it when a key changes its meaning."""
CHECKOUT = Path(__file__).parents[3]
"""Where the repository is, if this is an editable installation of it."""
PACKAGES = (
    "jupyter_server",
    "jupyter_client",
    "ipykernel",
    "pyzmq",
    "tornado",
    "orjson",
    "kernelwire",
)


def describe() -> dict[str, Any]:
    """Everything a reader needs to judge or repeat a number."""
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": {
            "python": platform.python_version(),
            "libzmq": zmq.zmq_version(),
            **{name: _version(name) for name in PACKAGES},
        },
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    listed = Path("/proc/cpuinfo")
    for line in listed.read_text().splitlines() if listed.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _commit() -> str | None:
    """Name the commit, with ``-dirty`` if the tree has changes; None outside the repository."""
    if not (CHECKOUT / "benches").is_dir():
        return None  # an installation, in whoever's repository that may be
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--match="]
    try:
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip() or None
