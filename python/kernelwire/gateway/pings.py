"""Pings on the way to a gateway: without them, nobody notices that it has gone without a word."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError

if TYPE_CHECKING:
    from kernelwire.gateway.link import GatewayLink

__all__ = ["keep_alive"]


async def keep_alive(link: GatewayLink, interval: float, patience: float) -> bool:
    """Ping a gateway every ``interval`` seconds; ``True`` once it is silent for ``patience`` seconds.

    Anything that it sends counts. While nothing is read of it, because the browser does not read, it
    is not silent; nor where this process was stopped, or busy, when it should have been asked.
    Without an interval, nobody asks. Returns ``False`` where the link is closed.
    """
    loop = asyncio.get_running_loop()
    pinged_at = loop.time()
    while interval > 0 and link.is_open():
        await asyncio.sleep(interval)
        now = loop.time()
        in_time = now - pinged_at < 2 * interval
        if in_time and not link.paused and now - link.heard_at > patience:
            return True
        try:
            link.ping()
        except (WebSocketClosedError, StreamClosedError):
            break
        pinged_at = now
    return False
