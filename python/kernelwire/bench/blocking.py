"""What comes through while the server's event loop is blocked."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
from bisect import bisect
from typing import TYPE_CHECKING

from kernelwire.bench.asking import QUIET_S, listening, order_flood
from kernelwire.bench.client import pump
from kernelwire.bench.flood_kernel import Order
from kernelwire.bench.verify import WrongAnswerError, check_complete, collect, message_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernelwire.bench.client import KernelSocket
    from kernelwire.bench.host import Host

RATE = 100
"""Messages a second, while the longest gap is looked for."""
MARGIN_S = 1
"""How long messages come before the loop is blocked, and afterwards: a busy machine is late."""


class Listener:
    """Notes replies and idle while the output comes in, to know when the end was reached."""

    def __init__(self, client: KernelSocket, msg_id: str) -> None:
        self._client = client
        self._msg_id = msg_id
        self._looked = 0
        self.reply = self.idle = False

    def finished(self) -> bool:
        """Whether the reply and the idle status are both here."""
        while self._looked < self._client.count:
            payload = self._client.payload(self._looked)
            # Cheap test first: decoding every message would slow the reader down.
            if b"idle" in payload or b"execute_reply" in payload:
                self._look(self._looked)
            self._looked += 1
        return self.reply and self.idle

    def _look(self, index: int) -> None:
        message = message_of(self._client, index)
        if message.parent_id != self._msg_id:
            return
        kind = message.header["msg_type"]
        self.reply |= kind == "execute_reply"
        self.idle |= kind == "status" and message.content["execution_state"] == "idle"


class Stall:
    """Asks the server to block its event loop once, when a share of the output has arrived.

    Only servers that a benchmark has started can be asked: see `kernelwire.bench.plugins`.
    """

    def __init__(self, server: Host, seconds: float, after: int, how: str = "sleep") -> None:
        self._server = server
        self._seconds = seconds
        self._after = after
        self._how = how
        self._socket: socket.socket | None = None
        self.started_ns = self.finished_ns = 0
        """When the loop was blocked, in `time.monotonic_ns()`; known when it was checked."""

    def start_if_due(self, arrived: int) -> None:
        """Send the request without waiting: the answer comes when the loop runs again."""
        if not self._seconds or self._socket or arrived < self._after:
            return
        self._socket = socket.create_connection(("127.0.0.1", self._server.port))
        request = f"GET /bench/stall?seconds={self._seconds}&how={self._how} HTTP/1.1\r\n"
        request += f"Host: 127.0.0.1\r\nAuthorization: token {self._server.token}\r\n\r\n"
        self._socket.sendall(request.encode())

    def check(self) -> None:
        """Make sure the stall happened, or the result would claim too much."""
        if not self._seconds:
            return
        if self._socket is None:
            msg = "the output was over before the stall was due"
            raise WrongAnswerError(msg)
        self._socket.settimeout(QUIET_S + self._seconds)
        with self._socket, http.client.HTTPResponse(self._socket) as response:
            response.begin()
            answer = response.read()
        if response.status != 200:
            raise WrongAnswerError(f"the stall failed: {answer[:100]!r}")
        span = json.loads(answer)
        self.started_ns, self.finished_ns = span["started_ns"], span["finished_ns"]
        if self.finished_ns - self.started_ns < self._seconds * 1e9:
            raise WrongAnswerError(f"the loop was blocked for less than {self._seconds:g} s")


def find_gap(server: Host, seconds: float, how: str = "sleep") -> dict[str, float]:
    """Block the loop for some seconds in the middle of a steady flood, and look for gaps in it."""
    order = Order(count=int(RATE * (seconds + 2 * MARGIN_S)), rate=RATE)
    stall = Stall(server, seconds, RATE * MARGIN_S, how)
    with listening(server) as client:
        msg_id = order_flood(client, order)
        listener = Listener(client, msg_id)

        def done() -> bool:
            stall.start_if_due(client.count)
            return listener.finished()

        pump([client], done, QUIET_S + seconds)
        stall.check()
        flood = collect(client, msg_id, order.emit, order.count)
        account = check_complete(flood)
        arrived = [client.arrived_ns(index) for index in flood.indices]
    blocked_ns = (stall.started_ns, stall.finished_ns)
    return gap_figures(account["sent_ns"], arrived, blocked_ns) | {"messages": order.count}


def gap_figures(
    sent_ns: Sequence[int], arrived_ns: Sequence[int], blocked_ns: tuple[int, int]
) -> dict[str, float]:
    """Return the longest gap while the loop was blocked, and what was sent and arrived meanwhile.

    The gap may begin before that and end afterwards. That in what the kernel has sent says whether it
    is the server's: on a machine with other work, the kernel has to wait as well.
    """
    if sent_ns[-1] < blocked_ns[1]:
        raise WrongAnswerError("the flood was over before the loop ran again")
    first, behind = (bisect(arrived_ns, at) for at in blocked_ns)
    first_sent, sent_behind = (bisect(sent_ns, at) for at in blocked_ns)
    return {
        "gap_ms": longest_ms(arrived_ns[first - 1 : behind + 1]),
        "sent_gap_ms": longest_ms(sent_ns[first_sent - 1 : sent_behind + 1]),
        "before_ms": longest_ms(arrived_ns[:first]),
        "sent_meanwhile": sent_behind - first_sent,
        "arrived_meanwhile": behind - first,
    }


def longest_ms(times_ns: Sequence[int]) -> float:
    """Milliseconds of the longest gap between two times."""
    return max(later - earlier for earlier, later in itertools.pairwise(times_ns)) / 1e6
