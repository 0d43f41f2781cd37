"""How long does an end behind a flood take to show? A cell displays as fast as it can, to a client that is slower.

Usage: ``python -m benches.interrupts --json benches/results/interrupts.json``; see benches/README.md. The
kernel is an ipykernel. After some seconds it ends in one of three ways, and it is told how long the
client waits:

* ``interrupt``, over REST: for the cell's ``error`` and its ``idle``
* ``restart``, over REST: for the reply to the first request to the next process
* ``crash``: for the ``restarting`` of the server
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Any

from benches import rounds
from kernelwire.bench.asking import connected
from kernelwire.bench.client import KernelSocket, SilenceError
from kernelwire.bench.host import end_on_signals, running
from kernelwire.bench.server import Server, Settings
from kernelwire.bench.verify import decode_v1

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from kernelwire.bench.contenders import Contender

PROGRAM = """
from IPython import get_ipython
publish = get_ipython().display_pub.publish
data = dict([("text/plain", "x" * 300)])
while True:
    publish(data)
"""
FLOOD_S = 4.0
"""How long the cell runs before it is interrupted."""
GIVEN_UP_S = 60.0
"""Seconds after which nobody waits any more."""


class SlowClient:
    """Reads so many messages a second of a websocket, as they come."""

    def __init__(self, client: KernelSocket, rate: float) -> None:
        self._client = client
        self._rate = rate
        self._looked = 0

    def read(self, wanted: Callable[[Any], bool]) -> Any:
        """Read until a message is the one, and return it."""
        found: list[Any] = []

        def done(message: Any) -> bool:
            found.append(message)
            return wanted(message)

        self.read_until(done, time.monotonic() + GIVEN_UP_S)
        return found[-1]

    def read_until(self, done: Callable[[Any], bool], until: float) -> float:
        """Read until a message is the one; when that was, on the monotonic clock.

        Raises ``SilenceError`` where it has not come by then, on the monotonic clock.
        """
        begun, first = time.monotonic(), self._client.count
        while time.monotonic() < until:
            due = (time.monotonic() - begun) * self._rate
            if self._client.count - first > due:
                time.sleep(0.001)
                continue
            self._client.on_readable(2048)
            while self._looked < self._client.count:
                message = decode_v1(self._client.payload(self._looked))
                self._looked += 1
                if done(message):
                    return time.monotonic()
            time.sleep(0.0002)
        raise SilenceError("what was waited for has not come")


def is_status(message: Any, state: str, parent: str | None = None) -> bool:
    """Whether a message is a status, of a request if one is given."""
    return (
        message.header["msg_type"] == "status"
        and message.content["execution_state"] == state
        and parent in (None, message.parent_id)
    )


@dataclass(frozen=True)
class Flooded:
    """A kernel that floods a client."""

    server: Server
    kernel: str
    pid: int
    client: KernelSocket
    slow: SlowClient
    msg_id: str

    def ask(self, action: str) -> None:
        """Have the server do something with the kernel; returns when it has."""
        self.server.request("POST", f"/api/kernels/{self.kernel}/{action}")

    def read_until(self, done: Callable[[Any], bool], asked: float) -> float:
        """Read until a message is the one; seconds since something was asked for."""
        return self.slow.read_until(done, asked + GIVEN_UP_S) - asked


def interrupt(flooded: Flooded) -> dict[str, float]:
    """Interrupt the kernel over REST."""
    asked = time.monotonic()
    call = Thread(target=flooded.ask, args=("interrupt",))
    call.start()
    error = flooded.read_until(lambda message: message.header["msg_type"] == "error", asked)
    idle = flooded.read_until(lambda message: is_status(message, "idle", flooded.msg_id), asked)
    call.join()
    return {"error_s": error, "idle_s": idle}


def restart(flooded: Flooded) -> dict[str, float]:
    """Restart the kernel over REST, and ask the next process something."""
    asked = time.monotonic()
    flooded.ask("restart")
    restarted = time.monotonic() - asked
    request = flooded.client.send("kernel_info_request", {})
    reply = flooded.read_until(
        lambda message: (
            message.header["msg_type"] == "kernel_info_reply" and message.parent_id == request
        ),
        asked,
    )
    return {"restarted_s": restarted, "reply_s": reply - restarted}


def crash(flooded: Flooded) -> dict[str, float]:
    """Kill the kernel."""
    asked = time.monotonic()
    os.kill(flooded.pid, signal.SIGKILL)
    return {"restarting_s": flooded.read_until(lambda m: is_status(m, "restarting"), asked)}


ENDS = {"interrupt": interrupt, "restart": restart, "crash": crash}


def observe(server: Server, rate: float, end: str) -> dict[str, float]:
    """End one kernel in a flood: seconds until the client has seen it."""
    kernel = server.start_kernel("ipy")
    with connected(server, kernel) as client:
        client.reserve(64 << 20)
        slow = SlowClient(client, rate)
        client.execute("import os; print(f'pid={os.getpid()}')")
        said = slow.read(lambda message: message.header["msg_type"] == "stream")
        pid = int(said.content["text"].partition("=")[2])
        msg_id = client.execute(PROGRAM)
        with suppress(SilenceError):  # nothing is waited for
            slow.read_until(lambda _: False, time.monotonic() + FLOOD_S)
        return ENDS[end](Flooded(server, kernel, pid, client, slow, msg_id))


def measure(contender: Contender, options: argparse.Namespace) -> dict[str, Any]:
    """One observation in a fresh server."""
    # How often a server looks whether its kernels live.
    config = contender.config | {"KernelRestarter": {"time_to_dead": 0.1}}
    settings = Settings.of(contender, lift_limits=False, config=config)
    try:
        with running(Server(settings)) as server:
            return {"ok": True, **observe(server, options.rate, options.end)}
    except SilenceError as error:
        return {"ok": False, "reason": f"{error}, in {GIVEN_UP_S:g} s"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Observe each contender in turn; 1 where one was never seen to end."""
    parser = rounds.parser("interrupts", __doc__)
    parser.add_argument("--rate", type=float, default=500, help="messages a second that are read")
    parser.add_argument("--end", choices=ENDS, default="interrupt")
    options = parser.parse_args(arguments)
    end_on_signals()
    cases = rounds.observe(options, lambda contender: measure(contender, options))
    for name, outcomes in cases.items():
        for each in outcomes:
            print(f"{name:20} {each}")
    settings = {"rate": options.rate, "flood_s": FLOOD_S, "end": options.end}
    rounds.write(options, "interrupts", settings, cases)
    ours = [each for name, each in cases.items() if name.startswith("kernelwire")]
    return 0 if all(each["ok"] for outcomes in ours for each in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
