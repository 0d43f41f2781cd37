"""Attacks on a live server that once worked: memory on the way to the kernel, secrets in the log."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelwire.sockets.options import MAX_SENT_MESSAGES
from kernelwire.sockets.sending import MAX_QUEUED_BYTES
from support.waiting import wait_until

if TYPE_CHECKING:
    from support.server import Server, StartKernel
    from support.ws_client import Connect

MEBIBYTE = 1 << 20
PART = 8 * MEBIBYTE
SLACK = 64 * MEBIBYTE


@pytest.mark.kernelwire_only("N2")
def test_memory_when_a_stopped_kernel_is_sent_much_then_it_is_bounded_and_told(
    server: Server, connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops a client from filling the server through libzmq's own queue."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id)
    (pid,) = kernel_processes(kernel_id)
    os.kill(pid, signal.SIGSTOP)
    try:
        log_end, resident = server.log_end(), server.resident_bytes()
        for _ in range(48):
            client.send("shell", "comm_msg", {"comm_id": "x"}, buffers=[bytes(PART)])
        wait_until(
            lambda: "wait for the kernel" in server.log(log_end), what="a refusal", timeout=60
        )
        server.status()
        bound = MAX_QUEUED_BYTES + (MAX_SENT_MESSAGES + 1) * PART + SLACK
        assert server.resident_bytes() - resident < bound
        assert len(server.log_lines(log_end)) == 1
    finally:
        os.kill(pid, signal.SIGCONT)
    assert client.ask("control", "kernel_info_request", {}, timeout=30)


def kernel_processes(kernel_id: str) -> list[int]:
    """The processes that were started with a kernel's connection file."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_one = f"kernel-{kernel_id}.json".encode() in (process / "cmdline").read_bytes()
            found += [int(process.name)] if is_one else []
    return found


@pytest.mark.kernelwire_only("N11")
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/kernels/{unknown}/channels", "404"),
        ("/api/kernels/{kernel}/channels?session_id=%FF", "400"),
        ("/api/kernels/{kernel}/channels?session_id=a%0Ab", "400"),
        ("/api/kernels/{unknown}", "404"),
    ],
)
def test_log_when_a_request_is_refused_then_the_token_is_left_out(
    server: Server, start_kernel: StartKernel, path: str, status: str
) -> None:
    """Stops the address of a request that fails from giving its token away."""
    unknown = "12345678-1234-1234-1234-123456789abc"
    path = path.format(unknown=unknown, kernel=start_kernel("fake"))
    path += f"{'&' if '?' in path else '?'}token={server.token}"
    log_end = server.log_end()
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    headers = upgrade if "channels" in path else {"Accept": "application/json"}
    with pytest.raises(Exception, match=status):
        server.request("GET", path, headers=headers)
    wait_until(lambda: status in server.log(log_end), what="the line")
    assert server.token not in server.log(log_end)
