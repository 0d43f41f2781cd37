"""The native module's stub says what the module is."""

from __future__ import annotations

import subprocess
import sys


def test_stub_when_compared_with_the_module_then_they_agree() -> None:
    """Stops a stub that describes another module than the one that was built."""
    # PyO3's classes say neither way whether others may share a base with them.
    command = [sys.executable, "-m", "mypy.stubtest", "kernelwire._native"]
    done = subprocess.run(
        [*command, "--ignore-disjoint-bases"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
