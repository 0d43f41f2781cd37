"""A server that passes on what a Kernel Gateway sends: stock beside kernelwire, in one run.

Usage: ``python -m benches.gateway --json benches/results/gateway.json``; see benches/README.md.
Every server has a gateway of its own, stock's and then one with kernelwire inside. CPU time and
memory are those of the server that passes on, and not the gateway's.
"""

from __future__ import annotations

import argparse
import socket
import sys
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches import rivals
from benches.bridge import save
from kernelwire.bench import procstat
from kernelwire.bench.cases import CASES, FAST, Round, Sizes, large
from kernelwire.bench.contenders import BASELINE, CONNECTION, KERNELWIRE, Contender
from kernelwire.bench.flood_kernel import Order
from kernelwire.bench.host import ServerError
from kernelwire.bench.program import carry_out, conclude
from kernelwire.bench.run import Options
from kernelwire.bench.server import NO_LIMIT, Server, Settings
from kernelwire.bench.table import listing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kernelwire.bench.host import Host

RELAY = "kernelwire.KernelwireGatewayConnection"
STOCK_RELAY = "jupyter_server.gateway.connections.GatewayWebSocketConnection"
GATEWAY = "jupyter_kernel_gateway"
MANAGER = "jupyter_server.gateway.managers.GatewayMappingKernelManager"
INSIDE_MANAGER = "kernelwire.kernel_gateway.KernelwireSeedingMappingKernelManager"
DEFAULT_PROTOCOL = "kernelwire-default-protocol"
INSIDES = {BASELINE: "", KERNELWIRE.name: ", kernelwire inside the gateway"}
"""What serves in the gateway, and how its cases are told apart."""
SIZES = Sizes(flood=20_000, trickle=4_000, buffer=100_000_000)
SMALLER_BYTES = 9_000_000
"""Of the longest message that stock passes on: it drops the connection at 10 MiB."""


class GatewayHost(Server):
    """A Kernel Gateway that runs the kernels."""

    probe = "/api/kernels"

    def __init__(self, settings: Settings, inside: str) -> None:
        super().__init__(settings)
        self._inside = inside
        with socket.create_server(("127.0.0.1", 0)) as found:
            self._chosen_port = int(found.getsockname()[1])

    def command(self) -> list[str]:
        """``jupyter kernelgateway`` with a config file that says everything."""
        return [sys.executable, "-m", "kernel_gateway", f"--config={self.root / 'bench.json'}"]

    def configuration(self) -> dict[str, dict[str, Any]]:
        """Lift its limits, and have kernelwire serve where that is wanted."""
        app = {"ip": "127.0.0.1", "port": self._chosen_port, "port_retries": 0}
        app |= {"auth_token": self.token}
        if self._inside == KERNELWIRE.name:
            app |= {"kernel_websocket_connection_class": CONNECTION}
            app |= {"kernel_manager_class": INSIDE_MANAGER}
        limits = {"iopub_msg_rate_limit": NO_LIMIT, "iopub_data_rate_limit": NO_LIMIT}
        return {
            "KernelGatewayApp": app,
            "JupyterWebsocketPersonality": {"list_kernels": True},
            "ZMQChannelsWebsocketConnection": limits,
            # Text that waits for a server that is slower than the gateway is not to be joined.
            "KernelwireWebsocketConnection": {"iopub_overflow": "drop"},
        }

    def announced_port(self) -> int:
        """Return the port that was chosen for it: it announces none."""
        return self._chosen_port

    def check(self) -> None:
        """Refuse to measure stock as kernelwire, or the other way round; it cannot be asked."""
        if procstat.is_available():
            found = "kernelwire/_native" in Path(f"/proc/{self.pid}/maps").read_text()
            if found != (self._inside == KERNELWIRE.name):
                raise ServerError(f"the gateway should serve with {self._inside}, and does not")


class RelayingServer(Server):
    """A Jupyter Server whose kernels run on a gateway of its own."""

    def __init__(self, settings: Settings, *, inside: str, default_protocol: bool) -> None:
        super().__init__(settings)
        self.default_protocol = default_protocol
        self._gateway = GatewayHost(settings, inside)

    def prepare(self) -> None:
        """Start the gateway, and write the files of the server."""
        self._gateway.__enter__()
        super().prepare()

    def configuration(self) -> dict[str, dict[str, Any]]:
        """Name the gateway."""
        url = f"http://127.0.0.1:{self._gateway.port}"
        client = {"url": url, "auth_token": self._gateway.token}
        return super().configuration() | {"GatewayClient": client}

    def stop(self) -> None:
        """End both; the server first, which ends its kernels on the gateway."""
        super().stop()
        self._gateway.stop()


def text(server: Host, sizes: Sizes, size: int = 0) -> Round:
    """One message with one long text: with binary data, stock's connection falls silent."""
    return large(server, Order(emit="display_data", count=1, size=size or sizes.buffer))


FUNCTIONS: dict[str, Callable[[Host, Sizes], Round]] = {
    **{name: CASES[name] for name in ("flood", "trickle", "rtt")},
    "text_9_mb": partial(text, size=SMALLER_BYTES),
    "text_100_mb": text,
}


def contenders(inside: str) -> list[Contender]:
    """Stock, and kernelwire as front ends have it, with v1, and with the default protocol."""
    too_long = {"text_100_mb": "it drops the connection at 10 MiB, and the message never arrives"}
    return [
        Contender(
            name,
            connection,
            MANAGER,
            without=too_long if name == BASELINE else {},
            host=partial(RelayingServer, inside=inside, default_protocol=default_protocol),
        )
        for name, connection, default_protocol in (
            (BASELINE, STOCK_RELAY, True),
            (KERNELWIRE.name, RELAY, False),
            (DEFAULT_PROTOCOL, RELAY, True),
        )
    ]


def measure(given: argparse.Namespace, inside: str) -> dict[str, Any]:
    """Run all cases with one kind of gateway."""
    options = Options(
        contenders=contenders(inside),
        cases=given.cases,
        functions=FUNCTIONS,
        rounds=given.rounds or (1 if given.fast else 3),
        sizes=replace(FAST, buffer=SMALLER_BYTES) if given.fast else SIZES,
        pin=procstat.can_pin(),
        keep_servers=given.fast,
        flooder=rivals.native_flooder() if rivals.has_relay() else (),
    )
    result = carry_out(options, quiet=given.quiet)
    cases = result["cases"].items()
    return result | {"cases": {f"{name}{INSIDES[inside]}": outcome for name, outcome in cases}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 if any answer was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benches.gateway", description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=FUNCTIONS, default=list(FUNCTIONS))
    parser.add_argument("--inside", nargs="+", choices=INSIDES, default=list(INSIDES))
    parser.add_argument("--rounds", type=int, default=None, help="default 3, with --fast 1")
    parser.add_argument("--fast", action="store_true", help="tiny counts, to see that it works")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument(
        "--update", type=Path, help="put the cases measured in place of those in this file"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    given = parser.parse_args(arguments)
    results = [measure(given, inside) for inside in given.inside]
    result = results[0]
    for each in results[1:]:
        result["cases"] |= each["cases"]
    result["environment"]["versions"][GATEWAY] = version(GATEWAY)
    print("\n".join(listing(result)))
    save(result, given.json, given.update)
    return conclude(result)


if __name__ == "__main__":
    sys.exit(main())
