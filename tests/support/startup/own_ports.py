"""Ports for the processes of one test run, apart from those of every other run on the machine.

Whoever starts a kernel or a server here asks the system for a free port, gives it back, and tells the
child, which takes it a moment later. Two runs that do this at the same time get the same port now and
then; and a kernel never recovers, for `jupyter_client` restarts it five times with the same ports,
though its log says "new random ports". So each run claims a share of the ports below those that the
system gives, and its processes choose among them where they would have had the system choose.

It is loaded at the start of every process, so it imports no more than it must.
"""

from __future__ import annotations

import errno
import os
import socket
from itertools import count
from typing import Any

VARIABLE = "TESTED_PORTS"
"""The environment variable with the first of a run's ports."""

SHARE = 1000
SHARES = range(20_000, 32_000, SHARE)
"""The first ports of all shares: Linux gives ports from 32,768 on by itself, macOS from 49,152."""


_offsets = count(int.from_bytes(os.urandom(2), "big"))
"""One after the other, so that a kernel that is to have new ports gets others than it has."""


def claim() -> socket.socket | None:
    """Claim a share for this process and its children, until the socket is closed; None: none is left."""
    for first in SHARES:
        claimed = socket.socket()
        try:
            claimed.bind(("127.0.0.1", first))
            claimed.listen()
        except OSError:
            claimed.close()
            continue
        os.environ[VARIABLE] = str(first)
        return claimed
    return None


def first_own() -> int:
    """The first of the claimed ports, by which they are known; raises KeyError where none are."""
    return int(os.environ[VARIABLE])


def choose_among_own() -> None:
    """Have this process choose among the claimed ports, if there are any."""
    if VARIABLE in os.environ:
        socket.socket.bind = _bind_to_own  # type: ignore[method-assign]


def _bind_to_own(self: socket.socket, address: Any, /) -> None:
    bind = super(socket.socket, self).bind
    if self.family != socket.AF_INET or address[1] != 0:
        return bind(address)
    first = first_own() + 1  # Who claims them listens on the first.
    # The system gives out no port that is in use, also where its address could be shared.
    shared = self.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    try:
        for _ in range(SHARE - 1):
            try:
                return bind((address[0], first + next(_offsets) % (SHARE - 1)))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
    finally:
        self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, shared)
    return bind(address)
