"""A tab of a browser: a client behind a network that may fail, and the ledger of its session."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from support.fake_kernel import script
from support.network import Network, State
from support.ws_client import DEFAULT_TIMEOUT, Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.ledger import Ledger
    from support.messages import Message
    from support.server import Server

ATTEMPTS = 30
"""How often a kernel is asked for a sign on a channel that may not have been there for the first."""


class Tab:
    """One connection of a session. Until it has settled, it may not have seen all there is."""

    def __init__(
        self,
        server: Server,
        kernel_id: str,
        ledger: Ledger,
        protocol: str,
        on_asked: Callable[[], object] = lambda: None,
    ) -> None:
        """Connect; ``on_asked`` is called when the server has been asked, and need not have answered."""
        self.ledger = ledger
        self.network = Network(server.open_socket, on_asked)
        self.client = Client(
            server,
            kernel_id,
            session_id=ledger.session_id,
            protocol=protocol,
            open_socket=self.network.connect,
        )
        self.is_dark = False
        self.kernel = ""
        self.position = 0
        """The kernel and its number of outputs, when the tab has settled last."""

    # what it sees

    def see_until(self, condition: Callable[[Message], bool]) -> None:
        """Read until a message for which the condition holds."""
        self.ledger.see(self.client.messages(until=condition))

    def see_rest(self) -> None:
        """Read until the server hangs up, or the network has nothing more."""
        self.ledger.see(self.client.rest()[0])

    def settle(self) -> None:
        """See all that the kernel has said by now, with the replies to what was asked."""
        # A connection to a busy kernel does not wait for its subscription to take effect, and
        # after a restart nobody has waited for the sockets of those who were not there.
        attempts = ATTEMPTS if self.ledger.may_miss else 1
        reply = self._ask(DEFAULT_TIMEOUT / attempts)
        for _ in range(attempts - 1):
            reply = reply or self._ask(DEFAULT_TIMEOUT / attempts)
        assert reply is not None, f"{self.ledger.session_id}: no reply, or no idle"
        self.kernel = reply.header["session"]
        to_come = reply.content["to_come"]
        self.position = reply.content["emitted"] + to_come
        while self.ledger.owed or (to_come and self.ledger.position < self.position):
            self.ledger.see([self.client.receive()])
        self.ledger.settle(self.kernel, self.position)

    def _ask(self, timeout: float) -> Message | None:
        """Ask how much the kernel has said; `None` where it is not known that all of it has come."""
        request = self.client.send("control", "kernel_info_request", {})
        deadline = time.monotonic() + timeout
        reply, idle = None, False
        while reply is None or not idle:
            try:
                message = self.client.receive(deadline - time.monotonic())
            except TimeoutError:
                return None
            self.ledger.see([message])
            idle = idle or message.is_status("idle", request)
            reply = message if message.is_reply_to(request) else reply
        return reply

    # what it does

    def start(self, *steps: dict[str, object]) -> str:
        """Have the kernel do something, and read until it has begun."""
        msg_id = self.client.start(script(*steps))
        self.ledger.owed.add(msg_id)
        self.see_until(lambda m: m.is_status("busy", msg_id))
        return msg_id

    def meet_new_kernel(self) -> None:
        """Wait for the kernel that was started in the place of another."""
        self.client.meet_new_kernel()
        self.settle()

    # how it goes

    def close(self) -> None:
        """Close cleanly, if that has not begun, and read on to the end."""
        self.client.socket.start_close()
        self.see_rest()
        self.release()

    def reset(self) -> None:
        """Break the connection."""
        self.network.break_off()
        self.see_rest()
        self.release()

    def darken(self, state: State) -> None:
        """Lose the network, with neither side being told."""
        self.network.go_down(state)
        self.is_dark = True

    def lighten(self) -> None:
        """Have the network back."""
        self.network.come_up()
        self.is_dark = False

    def release(self) -> None:
        """Let go of the sockets, whatever they are doing."""
        self.client.reset()
        self.network.end()
