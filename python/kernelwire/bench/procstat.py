"""CPU time and memory of another process, from ``/proc``.

CPU time comes from ``/proc/PID/task/TID/schedstat``, whose first field is nanoseconds on a CPU. The
counters in ``stat`` tick a hundred times a second, too coarse for a kernel that sends 800 messages
a second.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

ALLOWED = frozenset(
    os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
)
"""The cores this process might use when it started."""
SERVER_CPU = min(ALLOWED)
"""The core that a server gets where it gets one to itself."""
SETTLE_WINDOW_S = 0.2
SETTLE_BUSY_S = 0.004
"""A server that used less CPU than this (2 %) during one window has nothing left to do."""


@dataclass(frozen=True)
class CpuTime:
    """CPU seconds of a process since it started, as far as its present threads used them."""

    total: float
    main: float

    def __sub__(self, earlier: CpuTime) -> CpuTime:
        """CPU time used since `earlier`."""
        return CpuTime(self.total - earlier.total, self.main - earlier.main)


def is_available() -> bool:
    """Whether this system tells CPU time and memory of processes; macOS does not in this way."""
    return Path("/proc/self/schedstat").exists() and Path("/proc/self/clear_refs").exists()


def can_pin() -> bool:
    """Whether processes can be kept on cores, and there are enough of them."""
    return hasattr(os, "sched_setaffinity") and len(ALLOWED) > 1


def cpu_time(pid: int) -> CpuTime:
    """CPU seconds used so far by all threads of `pid`, and by its main thread."""
    total = main = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            seconds = thread_time(pid, int(task.name))
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread ended between listing and reading
        total += seconds
        if task.name == str(pid):
            main = seconds
    return CpuTime(total, main)


def thread_time(pid: int, thread: int) -> float:
    """CPU seconds used so far by one thread of `pid`."""
    schedstat = Path(f"/proc/{pid}/task/{thread}/schedstat").read_text()
    return int(schedstat.split()[0]) / 1e9


def settle(pid: int, timeout: float = 30.0) -> None:
    """Wait until `pid` is idle, so that its deferred work is part of the bill."""
    if not is_available():
        time.sleep(2 * SETTLE_WINDOW_S)
        return
    deadline = time.monotonic() + timeout
    before = cpu_time(pid).total
    while time.monotonic() < deadline:
        time.sleep(SETTLE_WINDOW_S)
        now = cpu_time(pid).total
        if now - before < SETTLE_BUSY_S:
            return
        before = now
    msg = f"the server was still busy {timeout:.0f} s after the last message"
    raise TimeoutError(msg)


def reset_peak_rss(pid: int) -> None:
    """Forget the peak so far, so that one case does not report another's (see proc(5))."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def rss_mb(pid: int) -> float:
    """Present resident set of `pid` in MB."""
    return _status_kb(pid, "VmRSS") / 1e3


def peak_rss_mb(pid: int) -> float:
    """Largest resident set of `pid` since the last reset, in MB."""
    return _status_kb(pid, "VmHWM") / 1e3


def _status_kb(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    msg = f"/proc/{pid}/status has no {field}"
    raise RuntimeError(msg)


def other_cpus(cpu: int) -> set[int]:
    """Every core that may be used but one."""
    return set(ALLOWED - {cpu})


def leave_server_cpu() -> None:
    """Keep this process off the server's core: who asks must not compete with who answers."""
    os.sched_setaffinity(0, other_cpus(SERVER_CPU))


def pin(pid: int, cpu: int) -> None:
    """Keep every thread of `pid` on one core; threads started later inherit it."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {cpu})
