"""What a block of work costs the server: CPU and memory, start to settled."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kernelwire.bench import procstat

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Bill:
    """CPU and memory a server used in a `billed` block."""

    cpu: procstat.CpuTime = field(default_factory=lambda: procstat.CpuTime(0, 0))
    rss_before_mb: float = 0
    peak_rss_mb: float = 0

    def per_message(self, count: int) -> dict[str, float]:
        """Return the figures every case reports, where they can be had."""
        if not procstat.is_available():
            return {}
        return {
            "cpu_us_per_msg": self.cpu.total / count * 1e6,
            "main_us_per_msg": self.cpu.main / count * 1e6,
            "peak_rss_mb": self.peak_rss_mb,
        }


@contextmanager
def billed(pid: int) -> Iterator[Bill]:
    """Measure the block, including the work the server does after the last message is out."""
    procstat.settle(pid)
    if not procstat.is_available():
        yield Bill()
        return
    procstat.reset_peak_rss(pid)
    bill = Bill(rss_before_mb=procstat.rss_mb(pid))
    before = procstat.cpu_time(pid)
    yield bill
    procstat.settle(pid)
    bill.cpu = procstat.cpu_time(pid) - before
    bill.peak_rss_mb = procstat.peak_rss_mb(pid)


def idle_cpu_ms_per_s(pid: int, seconds: float) -> float:
    """Measure what the server uses while nothing happens, in ms of CPU per second."""
    procstat.settle(pid)
    if not procstat.is_available():
        return 0
    before = procstat.cpu_time(pid).total
    time.sleep(seconds)
    return (procstat.cpu_time(pid).total - before) * 1e3 / seconds
