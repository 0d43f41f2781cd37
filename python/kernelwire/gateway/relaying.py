"""The life of the links to a gateway: made, used, lost, and made again."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Any

from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.utils import url_path_join
from tornado.escape import url_escape
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError

from kernelwire._logging import shown
from kernelwire.gateway.handshake import NOT_FOUND
from kernelwire.gateway.kept import KeptRequests
from kernelwire.gateway.link import GatewayLink
from kernelwire.gateway.pings import keep_alive

if TYPE_CHECKING:
    from jupyter_server.gateway.connections import GatewayWebSocketConnection as _Base

    from kernelwire.gateway.browser import Browser
else:
    _Base = object

__all__ = ["BAD_GATEWAY", "SERVICE_RESTART", "TRY_AGAIN_LATER", "RelayMixin"]

SERVICE_RESTART, TRY_AGAIN_LATER, BAD_GATEWAY = 1012, 1013, 1014
"""Codes with which a browser is closed. Source: IANA, WebSocket Close Code Number Registry."""


class RelayMixin(_Base):
    """Part of ``KernelwireGatewayConnection``: relaying, by one link to the gateway after another."""

    if TYPE_CHECKING:
        max_pending_bytes: int

    _link: GatewayLink | None = None
    _browser: Browser | None = None
    _relaying: asyncio.Task[None] | None = None
    _why = ""
    """Why the last attempt to connect has failed."""

    _is_closing = False
    """Whether the browser was closed from here: nothing more is taken of it."""

    _agreed: list[str] | None = None
    """What to offer to the gateway when it is connected to again: what was agreed with the browser."""

    def __init__(self, **kwargs: Any) -> None:
        """Make a connection that has no link yet."""
        super().__init__(**kwargs)
        self._kept = KeptRequests()
        self._requests = self._outages = self._sent_by_former_links = 0
        self._link_changed_at = time.monotonic()

    async def _relay(self, link: GatewayLink | None) -> None:
        """Relay until the browser goes; when the gateway goes, connect to it again."""
        if link is None:
            link = self._agreeing(await self._try_to_connect())
        while not (self.disconnected or self._is_closing):
            link = link or self._agreeing(await self._connect_again())
            if link is None:
                return
            attempts = self.retry
            await self._relay_by(link)
            link.close()
            self._kept.put_back(link.take_unsent())
            # A gateway that accepts, and closes without a word, is not tried for ever.
            self.retry = 0 if link.was_heard else attempts
            self._sent_by_former_links += link.sent_bytes
            self._note_link(None)
            link = None
            if not self.disconnected:
                self._outages += 1
                self.log.warning("Lost connection to Gateway: %s", self.kernel_id)
        if link is not None:
            link.close()

    def _relayed(self, relaying: asyncio.Task[None]) -> None:
        """Close the browser where relaying has failed: it would wait for ever."""
        if not relaying.cancelled() and (error := relaying.exception()) is not None:
            self.log.error("Relaying for kernel %s failed", self.kernel_id, exc_info=error)
            self._close_browser(BAD_GATEWAY, "relaying failed")

    async def _relay_by(self, link: GatewayLink) -> None:
        """Relay by a link until it ends."""
        self._note_link(link)
        self.retry = 0
        if self._browser is not None:
            link.attach(self._browser)
        for message in self._kept.take():
            self._write_message(message)
        pinging = asyncio.create_task(keep_alive(link, *self._ping_seconds()))
        both: list[Any] = [link.ended, pinging]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not link.ended.done() and pinging.result():
            self.log.debug("Gateway does not answer pings: %s", self.kernel_id)
            link.end()
        await link.ended
        pinging.cancel()

    def _note_link(self, link: GatewayLink | None) -> None:
        """Note which link there is from now on; ``None`` while there is none."""
        self.ws = self._link = link
        self._link_changed_at = time.monotonic()

    def _ping_seconds(self) -> tuple[float, float]:
        """Return how often to ping, and how long to wait for an answer: as browsers are pinged."""
        handler: Any = self.websocket_handler
        if not isinstance(handler, WebSocketMixin):
            return 0, 0
        return handler.ping_interval / 1000, handler.ping_timeout / 1000

    async def _connect_again(self) -> GatewayLink | None:
        """Try to connect, as often as configured; ``None`` where the browser was closed instead."""
        client = GatewayClient.instance()
        begun, self._why = asyncio.get_running_loop().time(), "it was not tried"
        while self.retry < client.gateway_retry_max:
            jitter = random.randint(10, 100) * 0.01  # noqa: S311 (as stock)
            interval = client.gateway_retry_interval * 2**self.retry
            await asyncio.sleep(min(interval, client.gateway_retry_interval_max) + jitter)
            self.retry += 1
            link = await self._try_to_connect()
            if link is None:
                continue
            seconds = asyncio.get_running_loop().time() - begun
            self.log.info(
                "Connected to Gateway again after %.1f s, %s requests were kept: %s",
                *(seconds, len(self._kept), self.kernel_id),
            )
            return link
        if not (self._is_closing or self.disconnected):
            self._close_browser(BAD_GATEWAY, "the gateway cannot be reached", self._why)
        return None

    def _agreeing(self, link: GatewayLink | None) -> GatewayLink | None:
        """Return a link if it speaks what the browser speaks; else the browser is closed."""
        if link is None or (link.selected_subprotocol or "") in (self._agreed or [""]):
            return link
        link.close()
        self._close_browser(SERVICE_RESTART, "the gateway speaks another protocol now")
        return None

    async def _try_to_connect(self) -> GatewayLink | None:
        """Try to connect once; that the gateway has no such kernel ends all further attempts."""
        try:
            return await self._connect_to_gateway(self._agreed or [])
        except Exception as error:
            self._why = f"{type(error).__name__}: {shown(str(error))}"
            self.log.debug("Gateway is not there: %s: %s", self.kernel_id, self._why)
            if isinstance(error, HTTPClientError) and error.code == NOT_FOUND:
                self.retry = GatewayClient.instance().gateway_retry_max
            return None

    def _close_browser(self, code: int, why: str, detail: str = "") -> None:
        """Close the browser's websocket: it is to connect anew, or to tell its user."""
        self._is_closing = True
        requests = len(self._kept.take())
        lost = f", {requests} requests are lost" if requests else ""
        text = f"{why} ({detail})" if detail else why
        self.log.warning("Closing a connection to kernel %s: %s%s", self.kernel_id, text, lost)
        self.websocket_handler.close(code, why)

    # -- connecting ------------------------------------------------------------------------------

    async def _connect_to_gateway(self, subprotocols: list[str]) -> GatewayLink:
        """Connect as stock does, but for the subprotocols."""
        self.ws = None
        client = GatewayClient.instance()
        kernel = url_escape(self.kernel_id)
        url = url_path_join(client.ws_url or "", client.kernels_endpoint, kernel, "channels")
        if self.session_id:
            url += f"?session_id={url_escape(self.session_id)}"
        level = logging.DEBUG if self.retry else logging.INFO
        self.log.log(level, "Connecting to %s", url)
        link = GatewayLink(HTTPRequest(url, **client.load_connection_args()), subprotocols)
        self.ws_future = link.connect_future
        try:
            await link.connect_future
        except asyncio.CancelledError:
            link.end()  # the gateway may have accepted in the turn in which the browser has gone
            raise
        selected = link.selected_subprotocol
        if selected and selected not in subprotocols:
            link.close()
            raise WebSocketClosedError(f"it speaks {shown(selected)}, which was not offered")
        self._no_delay(link.set_nodelay)
        return link

    def _no_delay(self, set_nodelay: Any) -> None:
        """Have small messages sent at once: Nagle's algorithm costs 40 ms with delayed ACKs."""
        try:
            set_nodelay(True)
        except (AssertionError, AttributeError, OSError, StreamClosedError) as error:
            self.log.debug("TCP_NODELAY could not be set: %s", error)
