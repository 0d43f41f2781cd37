"""A network namespace of its own for kernels, and the link from this machine to it.

The namespace belongs to a child process (``python -m support.namespaces``) and has no name: it goes
with that process and the kernels in it, and the link with it, whatever ends the tests. Two kinds of
link exist:

``veth``
    The kernel's own virtual cable, as fast as the machine is.
``slow``
    A TUN device at each end. The child forwards packets between them, each 10 ms later, and drops
    1 % of them by a seeded generator: real packets and real TCP, at a round trip of 20 ms. netem
    would do the same, but many kernels are built without it; TUN is nearly always there.

Addresses are from 198.18.0.0/15, which is set aside for tests of networks (RFC 2544) and leads
nowhere else.
"""

from __future__ import annotations

import ctypes
import os
import random
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import NoReturn

DELAY_SECONDS = 0.010
"""What each packet takes, each way."""
LOSS = 0.01
SEED = 17

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PACKET_BYTES = 1 << 16
BATCH = 64
"""Packets that are read of one device before the other has its turn."""

READY, UNAVAILABLE = "ready", "unavailable"


class NamespaceUnavailableError(Exception):
    """This machine, or this user, makes no network namespaces; the text says why."""


class Namespace:
    """A namespace with a link to this machine."""

    def __init__(self, kind: str) -> None:
        """Make it; raises ``NamespaceUnavailableError`` where that cannot be done here."""
        if sys.platform != "linux":
            raise NamespaceUnavailableError("network namespaces are Linux's")
        if missing := [each for each in ("ip", "nsenter") if shutil.which(each) is None]:
            raise NamespaceUnavailableError(f"no network namespace: {missing[0]} is not installed")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.namespaces", kind],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        answer, _, rest = self._process.stdout.readline().strip().partition(" ")
        if answer != READY:
            self.end()
            raise NamespaceUnavailableError(rest or "the process of the namespace has failed")
        self.address = rest
        """The address at which kernels are reached."""

    @property
    def path(self) -> str:
        """The file by which other processes enter it."""
        return f"/proc/{self._process.pid}/ns/net"

    def interrupt_link(self) -> None:
        """Let no packet of a ``slow`` link through; nobody is told."""
        self._process.send_signal(signal.SIGSTOP)

    def restore_link(self) -> None:
        """Let packets through again; those that waited come first."""
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """End the link; kernels that are left keep their namespace until they end."""
        self.restore_link()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


# -- in the child process ------------------------------------------------------------------------


def main(kind: str) -> None:
    """Make a namespace and a link to it, and keep them until standard input ends."""
    end_with_parent()
    # The number of this process is unique, and so are the two addresses that are derived from it.
    base = IPv4Address("198.18.0.0") + 4 * (os.getpid() % (1 << 15))
    here, there = base + 1, base + 2
    try:
        devices = make_veth(here, there) if kind == "veth" else make_tun(here, there)
    except OSError as error:
        answer(f"{UNAVAILABLE} no network namespace: {error}")
        sys.exit(1)
    except subprocess.CalledProcessError as error:
        answer(f"{UNAVAILABLE} no network namespace: {error.stderr.strip()}")
        sys.exit(1)
    answer(f"{READY} {there}")
    if devices:
        forward(*devices)
    sys.stdin.read()


def end_with_parent() -> None:
    """Be killed when the parent ends, whatever ends it: an interrupted link is a stopped process."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def answer(line: str) -> None:
    """Tell the parent."""
    print(line, flush=True)  # noqa: T201 (this is what it is for)


def make_veth(here: IPv4Address, there: IPv4Address) -> None:
    """Enter a new namespace, and have the parent's lead to it by a pair of veth devices."""
    enter_namespace()
    outside, name = f"--net=/proc/{os.getppid()}/ns/net", f"kwv{os.getpid()}"
    peer = ("peer", "name", "veth0", "netns", str(os.getpid()))
    run("nsenter", outside, "ip", "link", "add", name, "type", "veth", *peer)
    run("nsenter", outside, "ip", "address", "add", f"{here}/30", "dev", name)
    run("nsenter", outside, "ip", "link", "set", name, "up")
    run("ip", "address", "add", f"{there}/30", "dev", "veth0")
    run("ip", "link", "set", "veth0", "up")


def make_tun(here: IPv4Address, there: IPv4Address) -> tuple[int, int]:
    """Enter a new namespace with a TUN device at either end; what belongs to them is returned."""
    outer = open_tun(here)
    enter_namespace()
    return outer, open_tun(there)


def enter_namespace() -> None:
    """Enter a new network namespace, in which only the loopback device is there."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "unshare")
    run("ip", "link", "set", "lo", "up")


def open_tun(address: IPv4Address) -> int:
    """Make a TUN device in the namespace that this process is in; it goes with its descriptor."""
    from fcntl import ioctl  # noqa: PLC0415 (not everywhere)

    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    # The system puts a number in the place of "%d".
    request = struct.pack("16sH22x", b"kw%d", IFF_TUN | IFF_NO_PI)
    name = ioctl(device, TUNSETIFF, request)[:16].rstrip(b"\0").decode()
    run("ip", "address", "add", f"{address}/30", "dev", name)
    run("ip", "link", "set", name, "up")
    return device


def run(*command: str) -> None:
    """Run a command that must succeed."""
    subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def forward(outer: int, inner: int) -> NoReturn:
    """Forward packets between two devices, late, and not all; ends with standard input."""
    generator = random.Random(SEED)
    # What is read first is due first, as all packets take the same time.
    waiting: deque[tuple[float, int, bytes]] = deque()
    other = {outer: inner, inner: outer}
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        readable, _, _ = select.select([outer, inner, sys.stdin], [], [], timeout)
        if sys.stdin in readable:
            sys.exit(0)
        for device in readable:
            due = time.monotonic() + DELAY_SECONDS
            for packet in received(device):
                if generator.random() >= LOSS:
                    waiting.append((due, other[device], packet))
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, device, packet = waiting.popleft()
            send(device, packet)


def received(device: int) -> list[bytes]:
    """Read the packets that are there, up to a number."""
    packets: list[bytes] = []
    with suppress(BlockingIOError):
        while len(packets) < BATCH:
            packets.append(os.read(device, PACKET_BYTES))
    return packets


def send(device: int, packet: bytes) -> None:
    """Send a packet; one that the device does not take is lost, as on any link."""
    with suppress(OSError):
        os.write(device, packet)


if __name__ == "__main__":
    main(sys.argv[1])
