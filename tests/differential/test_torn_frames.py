"""Foreign code beside the direct way to the client's socket: every frame is whole, and in order.

There is nothing to compare with: stock has no way around tornado's buffer.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from kernelwire._logging import Throttle
from kernelwire.kernels.activity import Activity
from support.flooding import websocket_payloads
from support.offline_messages import NUMBER, display
from support.streams import turns
from support.waiting import run_to_end
from support.workbench import NATIVE, PORTABLE, Workbench

if TYPE_CHECKING:
    from collections.abc import Callable

SEND_BUFFER_BYTES = 8192
"""So little that no message here is sent whole."""

BURSTS = [range(1), range(1, 2), range(2, 40), range(40, 80), range(80, 81)]
"""Messages that come at the same time; some are more than one read takes."""

MESSAGES = BURSTS[-1].stop
NOTICE = b"a notice of an extension"


def write_a_notice(bench: Workbench) -> None:
    """Write to the websocket, as extensions do."""
    bench.handler.write_message(NOTICE, binary=True)


def fail(_bench: Workbench) -> None:
    """Raise."""
    raise RuntimeError("a bug")


def read_on(bench: Workbench) -> None:
    """Read the same channel."""
    bench.connection.channels["iopub"].read_once()


REACTIONS: dict[str, Callable[[Workbench], Any]] = {
    "writes": write_a_notice,
    "raises": fail,
    "reads": read_on,
    "flushes": lambda bench: bench.connection.channels["iopub"].flush(),
    "has a status sent": lambda bench: bench.connection._send_status_message("restarting"),
}


class Policy:
    """Rules for a kernel's state that react to every second message."""

    tracker = None

    def __init__(self, react: Callable[[], Any]) -> None:
        self.react = react
        self.reactions = 0
        self.calls = 0

    def message(self, *_args: Any) -> None:
        """React."""
        self.calls += 1
        if self.calls % 2:
            self.reactions += 1
            self.react()

    def apply(self) -> None:
        """Do nothing."""


class Eager(Activity):
    """Follows each message at once, as where somebody asks for the state all the time."""

    def heard(self, *, at_once: bool) -> None:
        """Follow."""
        del at_once
        super().heard(at_once=True)


def observed(bench: Workbench, react: Callable[[], Any]) -> Policy:
    """Have what the kernel says be followed by rules that react."""
    policy = Policy(react)
    connection = bench.connection
    loop = asyncio.get_running_loop()
    failures = Throttle(connection.log)
    activity = Eager("kernel", connection.session, failures, policy, loop)  # type: ignore[arg-type]
    connection._client.log.activity = activity
    return policy


def open_bench(way: str, **traits: Any) -> Workbench:
    """A workbench whose client's socket takes little at a time."""
    bench = Workbench(way, limit_rate=False, **traits)
    for end in (bench.iostream.socket, bench.theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    return bench


async def payloads_of(bench: Workbench, count: int) -> list[bytes]:
    """Let the loop turn until the client has so many numbered messages; all that it has got."""
    for _ in range(100):
        await turns()
        payloads = websocket_payloads(await bench.sent())
        if len(numbers(payloads)) >= count:
            break
    return payloads


def numbers(payloads: list[bytes]) -> list[int]:
    """The numbers of the kernel's messages."""
    found = (NUMBER.search(each.decode(errors="replace")) for each in payloads)
    return [int(match[1]) for match in found if match]


@pytest.mark.kernelwire_only("C1")
@pytest.mark.parametrize("way", [NATIVE, PORTABLE])
@pytest.mark.parametrize("reaction", REACTIONS)
def test_frames_are_whole_whatever_an_observer_does(way: str, reaction: str) -> None:
    """An observer that runs when a block is sent in part tears no frame and costs none."""

    async def body() -> None:
        bench = open_bench(way)
        try:
            stream = bench.connection.channels["iopub"]
            observer = observed(bench, lambda: REACTIONS[reaction](bench))
            for burst in BURSTS:
                for number in burst:
                    bench.kernel_ends["iopub"].send_multipart(display(number, 40_000))
                stream.read()
                await bench.sent()
                await turns()
            payloads = await payloads_of(bench, MESSAGES)
            assert observer.reactions > 0
            assert numbers(payloads) == list(range(MESSAGES))
            if reaction == "writes":
                assert NOTICE in payloads
        finally:
            bench.close()

    run_to_end(body)


@pytest.mark.parametrize("way", [NATIVE, PORTABLE])
def test_handed_over_message_is_not_overtaken(way: str) -> None:
    """A method that reads on while it has a message gets that one's frames out first."""

    async def body() -> None:
        bench = open_bench(way, allow_tracebacks=False)
        try:
            stream = bench.connection.channels["iopub"]
            original = bench.connection._on_error

            def read_on_first(*arguments: Any) -> Any:
                stream.flush()
                return original(*arguments)

            bench.connection._on_error = read_on_first
            end = bench.kernel_ends["iopub"]
            for number in range(MESSAGES):
                end.send_multipart(display(number, 10, "error" if number % 3 == 0 else "x"))
            stream.read()
            payloads = await payloads_of(bench, MESSAGES)
            assert numbers(payloads) == list(range(MESSAGES))
        finally:
            bench.close()

    run_to_end(body)
