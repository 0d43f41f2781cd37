"""``jupyter kernelwire bench``: a short benchmark of the installation it is called in."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_core.application import JupyterApp
from traitlets import Bool, Dict, Int, Unicode

from kernelwire import __version__
from kernelwire.bench import procstat
from kernelwire.bench.cases import CASES, FAST, Sizes
from kernelwire.bench.contenders import KERNELWIRE, STOCK
from kernelwire.bench.plot import draw
from kernelwire.bench.program import carry_out, conclude
from kernelwire.bench.run import Options
from kernelwire.bench.table import comparison, conditions
from kernelwire.bench.verdict import verdict
from kernelwire.sockets.drain import drain

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORT = Sizes(
    flood=20_000,
    display=5_000,
    legacy=5_000,
    cells=20,
    trickle=1_600,
    trickle50=100,
    kernels=20,
    rtt=30,
    background=20_000,
    samples=100,
    blocked_s=1.5,
    buffers=30,
    buffer=30_000_000,
    idle_s=0.4,
)
"""About two minutes, most of them stock's."""
DEFAULT_CASES = "flood,notebook,trickle,noclient,rtt,status,blocked,buffers"


class BenchApp(JupyterApp):
    """Measures stock and kernelwire in turn, in servers of their own."""

    name = "jupyter-kernelwire-bench"
    version = __version__
    description = Unicode(
        "Measure Jupyter Server's own bridge and kernelwire's in turn, on this machine and in this"
        " environment. Takes about two minutes. Servers are started on loopback with empty"
        " configuration and a kernel that only publishes; your configuration, kernels and running"
        " servers are not touched. Every answer is checked before its time counts. The last line"
        " says what the run has shown, and can be quoted."
    )
    cases = Unicode(
        DEFAULT_CASES, help=f"Comma-separated names of cases. There are: {', '.join(CASES)}."
    ).tag(config=True)
    rounds = Int(3, min=1, help="How often each case is measured for each of the two.").tag(
        config=True
    )
    json_file = Unicode("", help="Write everything measured to this file; - is stdout.").tag(
        config=True
    )
    plot_file = Unicode("", help="Draw the figures into this SVG file; needs matplotlib.").tag(
        config=True
    )
    fast = Bool(False, help="Tiny counts, to see that it works; says nothing about speed.").tag(
        config=True
    )
    pin = Bool(
        True, help="Give the server a core of its own, where there are two (Linux): steadier."
    ).tag(config=True)
    quiet = Bool(False, help="No progress bar.").tag(config=True)
    aliases: Any = Dict(
        {
            "cases": "BenchApp.cases",
            "rounds": "BenchApp.rounds",
            "json": "BenchApp.json_file",
            "plot": "BenchApp.plot_file",
        }
    )
    flags: Any = Dict(
        {
            "fast": ({"BenchApp": {"fast": True}}, "Tiny counts, to see that it works."),
            "no-pin": ({"BenchApp": {"pin": False}}, "Leave cores to the scheduler."),
            "quiet": ({"BenchApp": {"quiet": True}}, "No progress bar."),
        }
    )

    def start(self) -> None:
        """Measure, print the comparison, and exit."""
        result = carry_out(self.options(), quiet=self.quiet)
        self.write(result)
        sys.exit(conclude(result))

    def options(self) -> Options:
        """Check everything that can be wrong before two minutes are spent."""
        names = [name.strip() for name in self.cases.split(",")]
        unknown = [name for name in names if name not in CASES]
        if unknown:
            self.exit(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
        if sys.platform == "win32":
            self.exit("the benchmark ends its servers with signals that Windows does not have")
        if self.plot_file and find_spec("matplotlib") is None:
            self.exit("--plot needs matplotlib: pip install 'kernelwire[bench]'")
        for file in filter(None, (self.json_file, self.plot_file)):
            if not Path(file).absolute().parent.is_dir():
                self.exit(f"there is no directory for {file}")
        return Options(
            contenders=[STOCK, KERNELWIRE],
            cases=names,
            rounds=self.rounds,
            sizes=FAST if self.fast else SHORT,
            pin=self.pin and procstat.can_pin(),
            keep_servers=True,
        )

    def write(self, result: dict[str, Any]) -> None:
        """Write the files that were asked for, and the comparison to standard output."""
        text = json.dumps(result, indent=1) + "\n"
        if self.json_file == "-":
            sys.stdout.write(text)
        else:
            print("\n".join(report(result)))
        if self.json_file not in ("", "-"):
            Path(self.json_file).write_text(text)
        if self.plot_file:
            draw(result, Path(self.plot_file))


def report(result: dict[str, Any]) -> Iterator[str]:
    """Write what a reader wants to know, under which conditions it is true, and the gist of it."""
    yield from comparison(result, (STOCK.name, KERNELWIRE.name))
    rounds = result["settings"]["rounds"]
    yield ""
    if rounds > 1:
        yield f"Medians of {rounds} rounds (their whole range); comparison: median of the rounds."
    if not procstat.is_available():
        yield "CPU time and memory are measured on Linux only."
    found = drain()
    yield f"kernelwire receives {'natively' if found.native else 'portably'}: {found.reason}."
    yield conditions(result)
    yield ""
    yield verdict(result)


if __name__ == "__main__":
    BenchApp.launch_instance()
