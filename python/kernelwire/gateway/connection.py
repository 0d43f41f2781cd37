"""The connection class where kernels run on a gateway: stock's, with the messages relayed natively."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import Any, ClassVar, Self, cast
from weakref import WeakSet

from jupyter_server.gateway import connections as stock
from jupyter_server.gateway.connections import GatewayWebSocketConnection
from tornado.escape import json_decode
from tornado.web import Finish
from tornado.websocket import WebSocketClosedError
from traitlets import Integer, Unicode, observe, validate

from kernelwire._compat import Feature, is_off
from kernelwire._compat.tornado import is_own_connect
from kernelwire._config import at_least
from kernelwire._logging import hide_secrets, shown
from kernelwire._overrides import overrides
from kernelwire._refusals import check_origin, refuse
from kernelwire.gateway.browser import Browser
from kernelwire.gateway.handshake import is_handshake, offered_by, status_for, to_offer
from kernelwire.gateway.link import GatewayLink
from kernelwire.gateway.relaying import TRY_AGAIN_LATER, RelayMixin
from kernelwire.log.writers import is_plain

__all__ = ["KernelwireGatewayConnection"]

_OWN_WAYS = ("connect", "_connection_done", "_read_messages")
"""What a subclass may override to connect or to read in its own way: stock's is used then."""

_COUNTED = ("messages", "bytes", "requests", "request_bytes", "outages")
_WAITING = ("kept_requests", "kept_bytes", "unsent_bytes", "pending_bytes")
"""What of ``stats`` only grows, and what goes up and down."""

HANDSHAKE_SECONDS = 10.0
"""Time that a handshake may take from when the gateway has accepted to when the browser is answered."""

CLOSING_SECONDS = 1.0
"""Time that gateways have at a server's end to say goodbye."""


class KernelwireGatewayConnection(RelayMixin, GatewayWebSocketConnection):
    """A browser's connection to a kernel behind a gateway, whose messages are relayed as they are.

    Everything that can be configured, called or overridden is ``GatewayWebSocketConnection``'s.
    COMPATIBILITY.md lists what differs, and why.
    """

    kernel_ws_protocol = Unicode(
        None,
        allow_none=True,
        config=True,
        help="""The websocket subprotocol between browser, server and gateway.

        None: the one on which browser and gateway agree. An empty string: the default protocol. Any
        other: that one, where both speak it, and else the default protocol.
        """,
    )

    max_pending_bytes = Integer(
        8 * 1024 * 1024,
        config=True,
        help="""Bytes that may wait for a browser that does not read, or for a gateway that is away.

        Over it, nothing more is read from the gateway until half of it is sent; what goes on there
        is for the gateway to decide. Requests over it are refused: the browser is closed with code
        1013. One message of any size is sent in any case. 0 is no limit.
        """,
    )

    @validate("max_pending_bytes")
    def _valid_pending_bytes(self, proposal: Any) -> Any:
        """Refuse sizes that mean nothing."""
        return at_least(proposal, 0, zero="no limit")

    @observe("max_pending_bytes")
    def _limit_browser(self, change: Any) -> None:
        """Have a connection that is open go by the new limit."""
        if self._browser is not None:
            self._browser.limit = change.new
        if self._link is not None:
            self._link.set_limit(change.new)

    _relays = False
    """Whether messages take the way of this class, and not stock's."""

    _prepared: GatewayLink | None = None
    """A link that waits for the browser's handshake to be done."""

    _timer: asyncio.TimerHandle | None = None
    """Gives up the handshake."""

    _open: ClassVar[WeakSet[KernelwireGatewayConnection]] = WeakSet()

    _ended: ClassVar[Counter[str]] = Counter()
    """What connections have counted that are gone."""

    def __init__(self, **kwargs: Any) -> None:
        """Make a connection; see ``BaseKernelWebsocketConnection`` for the arguments."""
        super().__init__(**kwargs)
        hide_secrets()

    @property
    def stats(self) -> dict[str, int]:
        """What went which way since the browser came.

        ``messages`` and ``bytes`` came from the gateway, ``requests`` and ``request_bytes`` were sent
        to it; bytes include frames, and what is sent to it includes pings. ``kept_requests`` and
        ``kept_bytes`` wait because the gateway is away, ``unsent_bytes`` because it does not read,
        and ``pending_bytes`` for the browser to read. ``outages`` is how often the link to the gateway
        was lost.
        """
        browser, link = self._browser, self._link
        return {
            "messages": 0 if browser is None else browser.messages,
            "bytes": 0 if browser is None else browser.bytes,
            "requests": self._requests,
            "request_bytes": self._sent_by_former_links + (0 if link is None else link.sent_bytes),
            "kept_requests": len(self._kept),
            "kept_bytes": self._kept.bytes,
            "unsent_bytes": 0 if link is None else link.unsent_bytes,
            "pending_bytes": 0 if browser is None else browser.unsent,
            "outages": self._outages,
        }

    @classmethod
    def open_connections(cls) -> list[Self]:
        """Return the connections of this class that relay."""
        return [each for each in list(cls._open) if isinstance(each, cls)]

    @staticmethod
    def totals() -> Counter[str]:
        """Return what all connections have counted, and what waits for those that are open."""
        cls = KernelwireGatewayConnection
        totals = Counter(dict.fromkeys((*_COUNTED, *_WAITING), 0))
        for counts in (cls._ended, *(each.stats for each in list(cls._open))):
            totals.update(counts)
        return totals

    def describe(self) -> dict[str, Any]:
        """Say how the link to the gateway is, and what went over it, for an operator.

        ``protocol`` is that of the browser and of the gateway, "" for the default one; ``seconds`` is
        since when the link is up, or away. ``relay`` is who passes on what the gateway says, the
        ``engine`` or the event ``loop``, "" while the link is away. ``paused`` is whether the gateway
        is not read because the browser does not read.
        """
        link = self._link
        relay = "" if link is None else "engine" if link.is_engines else "loop"
        return {
            "protocol": (self._agreed or [""])[0],
            "link": "away" if link is None else "up",
            "seconds": time.monotonic() - self._link_changed_at,
            "relay": relay,
            "paused": link is not None and link.paused,
            **self.stats,
        }

    @classmethod
    async def close_all(cls) -> None:
        """Close the links to the gateway, and wait a moment for its goodbye."""
        connections = cls.open_connections()
        links = [each.ws for each in connections]
        for connection in connections:
            connection.disconnect()
        ends = [link.ended for link in links if isinstance(link, GatewayLink)]
        if ends:
            await asyncio.wait(ends, timeout=CLOSING_SECONDS)

    # -- connecting ------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Connect to the gateway, before the browser is answered: both must speak the same protocol.

        Raises ``HTTPError`` where the gateway does not accept: 404 if it does not know the kernel,
        else 503.
        """
        self._relays = self._obstacle() is None
        if not self._relays and self.kernel_ws_protocol is None:
            self.kernel_ws_protocol = ""  # upstream asks the gateway for nothing else
        request: Any = self.websocket_handler.request
        if not self._relays or not is_handshake(request):
            return
        check_origin(self)
        offer = to_offer(offered_by(request), self.kernel_ws_protocol)
        try:
            link = await self._connect_to_gateway(offer)
        except asyncio.CancelledError:
            raise Finish from None  # the browser is gone
        except Exception as error:
            text = f"{type(error).__name__}: {shown(str(error))}"
            refuse(self, status_for(error), "The gateway cannot be reached", text)
        if self.disconnected:
            link.close()
            raise Finish
        self._agreed = [link.selected_subprotocol] if link.selected_subprotocol else []
        self.kernel_ws_protocol = link.selected_subprotocol or ""
        self._prepared = link
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(HANDSHAKE_SECONDS, self._give_up_handshake)

    async def connect(self) -> None:
        """Relay between browser and gateway from now on."""
        if not self._relays and self._obstacle() is not None:
            await super().connect()
            return
        self._relays = True
        link, self._prepared = self._prepared, None
        self._give_up_handshake()
        handler: Any = self.websocket_handler
        if self._agreed is None:  # nobody has called `prepare`
            selected = getattr(handler, "selected_subprotocol", None)
            self._agreed = [selected] if isinstance(selected, str) and selected else []
        passes_by = is_plain(handler) and not self._reads_messages()
        handle = None if passes_by else self.handle_outgoing_message
        self._browser = Browser(handler, handle, self.max_pending_bytes)
        self._no_delay(handler.set_nodelay)
        self._open.add(self)
        self._note_link(link)  # to be closed, should the browser go before the task begins
        self._relaying = asyncio.create_task(self._relay(link))
        self._relaying.add_done_callback(self._relayed)

    def disconnect(self) -> None:  # type: ignore[override]  # as upstream's class
        """End: the browser has gone, or the server goes."""
        super().disconnect()
        if self._browser is not None:
            self._browser.is_gone = True
        if self in self._open:
            self._open.discard(self)
            stats = self.stats
            self._ended.update({name: stats[name] for name in _COUNTED})
        self._give_up_handshake()
        self._kept.take()
        if self._link is None and self._relaying is not None:
            self._relaying.cancel()  # it waits to connect again

    def _obstacle(self) -> str | None:
        """Say why stock's way is taken; ``None`` where messages are relayed."""
        if ways := overrides(self, KernelwireGatewayConnection, _OWN_WAYS):
            return f"{ways[0]} overridden"
        if not is_own_connect(cast("Any", stock).tornado_websocket.websocket_connect):
            return "websocket_connect is not tornado's"
        # What is kept for the gateway, and what it has taken, is told apart by what writing needs.
        is_missing = is_off(Feature.RELAY, Feature.DIRECT_WRITING)
        return "a name of tornado's or Jupyter Server's is missing" if is_missing else None

    def _reads_messages(self) -> bool:
        """Whether a subclass is to see each message from the gateway."""
        return bool(overrides(self, KernelwireGatewayConnection, ("handle_outgoing_message",)))

    def _give_up_handshake(self) -> None:
        """Close a link whose browser has not come to use it."""
        if self._timer is not None:
            self._timer.cancel()  # it would keep this connection in memory
            self._timer = None
        link, self._prepared = self._prepared, None
        if link is not None:
            link.close()

    # -- messages --------------------------------------------------------------------------------

    def handle_outgoing_message(self, incoming_msg: Any, *args: Any) -> None:
        """Send a message to the browser, as text or as bytes."""
        del args
        try:
            written = self.websocket_handler.write_message(
                incoming_msg, binary=isinstance(incoming_msg, bytes)
            )
        except WebSocketClosedError:
            if self.log.isEnabledFor(logging.DEBUG):
                summary = self._summary(incoming_msg)
                self.log.debug("The browser has closed its websocket, dropped: %s", summary)
            return
        if self._browser is not None:
            self._browser.note(written)

    def handle_incoming_message(self, message: Any) -> None:
        """Send a message to the gateway; one for which it is away is kept."""
        if not self._relays:
            super().handle_incoming_message(message)
        elif not (self.disconnected or self._is_closing):
            self._write_message(message)

    def _write_message(self, message: Any) -> None:
        """Send a message to the gateway, as text or as bytes."""
        if not self._relays:
            super()._write_message(message)
            return
        if self._link is not None and not len(self._kept):
            try:
                self._link.send(message)
            except WebSocketClosedError:
                pass
            else:
                self._requests += 1
                return
        if not self._kept.add(message, self.max_pending_bytes):
            self._close_browser(
                TRY_AGAIN_LATER, f"more than {self.max_pending_bytes} bytes wait for the gateway"
            )

    @staticmethod
    def _get_message_summary(message: dict[str, Any]) -> str:
        """Say what a message is, for the log."""
        msg_type, content = message["msg_type"], message.get("content", {})
        if msg_type == "status":
            return f"type: {msg_type}, state: {content['execution_state']}"
        if msg_type == "error":
            error = "{ename}:{evalue}:{traceback}".format(**content)
            return f"type: {msg_type}, {error}"
        return f"type: {msg_type}, ..."  # nothing of what a user might not want to be logged

    @classmethod
    def _summary(cls, message: Any) -> str:
        """Say what a message is, whatever it is."""
        if isinstance(message, bytes):
            return f"{len(message)} bytes"
        try:
            return shown(cls._get_message_summary(json_decode(message)))
        except Exception:
            return "a message that cannot be read"
