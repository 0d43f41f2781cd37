"""A run as a program does it: the server's core left alone, progress shown, Ctrl-C in order."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from kernelwire.bench import procstat
from kernelwire.bench.host import end_on_signals
from kernelwire.bench.progress import tracked
from kernelwire.bench.run import problems, run

if TYPE_CHECKING:
    from kernelwire.bench.run import Options

INTERRUPTED = 130
"""What shells report of a program that SIGINT has ended."""


def carry_out(options: Options, *, quiet: bool) -> dict[str, Any]:
    """Run every case; a signal ends the servers, and then this program."""
    end_on_signals()
    if options.pin:
        procstat.leave_server_cpu()
    try:
        return run(options, partial(tracked, quiet=quiet))
    except KeyboardInterrupt:
        print("interrupted; the servers are ended, nothing is written", file=sys.stderr)
        sys.exit(INTERRUPTED)


def conclude(*results: dict[str, Any]) -> int:
    """Say which answers were wrong; returns the program's exit status."""
    wrong = [each for result in results for each in problems(result)]
    for each in wrong:
        print(each, file=sys.stderr)
    return 1 if wrong else 0
