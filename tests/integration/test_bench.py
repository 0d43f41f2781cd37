"""``jupyter kernelwire bench``, as users call it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")

WHOLE_SECONDS = 110
"""How long a run may take; it is not timed: on a busy machine, imports alone take many seconds."""


@contextmanager
def bench(tmp_path: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A benchmark under way, whose temporary files are below `tmp_path`."""
    command = [sys.executable, "-m", "kernelwire.cli", "bench", "--fast", "--quiet", *options]
    process = subprocess.Popen(
        command,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def processes_below(tmp_path: Path) -> list[str]:
    """Command lines of the servers and kernels that a benchmark has started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue  # it ended
        if str(tmp_path) in line:
            found.append(line.replace("\0", " "))
    return found


def test_bench_when_run_then_it_compares_and_leaves_nothing(tmp_path: Path) -> None:
    """Stops one that does not work in an installation, draws no chart, or leaves servers behind."""
    result, chart = tmp_path / "result.json", tmp_path / "chart.svg"
    files = (f"--json={result}", f"--plot={chart}")
    with bench(tmp_path, "--rounds=1", "--cases=flood,blocked", *files) as process:
        out, err = process.communicate(timeout=WHOLE_SECONDS)
    assert process.returncode == 0, err
    assert "times better" in out
    assert "kernelwire receives" in out
    assert "Measured 20" in out
    cases = json.loads(result.read_text())["cases"]
    assert {name: case["correct"] for name, case in cases.items()} == {
        "flood": True,
        "blocked": True,
    }
    assert "longest gap in output" in out
    blocked = cases["blocked"]["contenders"]
    gaps = {name: each["rounds"][0]["figures"] for name, each in blocked.items()}
    # Far less than the 300 ms: its client may read late what was sent before.
    assert gaps["stock"]["gap_ms"] > 150
    assert all(each["sent_meanwhile"] for each in gaps.values())
    assert out.endswith("\nNothing to quote: --fast says nothing about speed.\n")
    assert ET.parse(chart).getroot().tag.endswith("svg")
    assert processes_below(tmp_path) == []
    assert sorted(tmp_path.iterdir()) == [chart, result]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_bench_when_interrupted_then_its_servers_end(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Stops servers and kernels that go on after Ctrl-C."""
    with bench(tmp_path, "--cases=trickle") as process:
        # Both servers and a kernel, whose connection file is below the directory, too.
        wait_until(
            lambda: any("kernel-" in line for line in processes_below(tmp_path)),
            what="a kernel",
            timeout=60,
        )
        process.send_signal(number)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=WHOLE_SECONDS)
    assert process.returncode == 130, err
    assert "interrupted" in err
    wait_until(lambda: processes_below(tmp_path) == [], what="the end of all processes")
    assert list(tmp_path.iterdir()) == []


def test_bench_when_a_case_is_unknown_then_it_says_which_there_are(tmp_path: Path) -> None:
    """Stops a misspelt case from being found after minutes."""
    with bench(tmp_path, "--cases=flod") as process:
        _, err = process.communicate(timeout=WHOLE_SECONDS)
    assert process.returncode == 1
    assert "no case flod; there are flood" in err
