"""What is agreed before the browser's websocket is open: with the gateway, and with the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tornado.httpclient import HTTPClientError
from tornado.httputil import HTTPServerRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["is_handshake", "offered_by", "status_for", "to_offer"]

NOT_FOUND = 404
UNAVAILABLE = 503


def is_handshake(request: Any) -> bool:
    """Whether a request is one that tornado makes a websocket of; others it refuses itself."""
    if not isinstance(request, HTTPServerRequest):
        return False
    headers = request.headers
    options = (each.strip().lower() for each in headers.get("Connection", "").split(","))
    return (
        headers.get("Upgrade", "").lower() == "websocket"
        and "upgrade" in options
        and headers.get("Sec-WebSocket-Version") == "13"
        and bool(headers.get("Sec-WebSocket-Key") and headers.get("Host"))
    )


def offered_by(request: HTTPServerRequest) -> list[str]:
    """Return the subprotocols that a browser offers, in its order."""
    offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
    return [each.strip() for each in offered if each.strip()]


def to_offer(offered: Sequence[str], wanted: str | None) -> list[str]:
    """Return what to offer to the gateway, of what the browser offers.

    ``wanted`` is ``kernel_ws_protocol``: ``None`` for whatever both speak, an empty string for the
    default protocol, which has no name, and else the only one.
    """
    return [each for each in offered if wanted is None or each == wanted]


def status_for(error: BaseException) -> int:
    """Return the status with which to refuse a browser, because the gateway has not accepted.

    That the gateway does not know the kernel is the same for the browser; whatever else is wrong is
    between this server and the gateway.
    """
    is_unknown = isinstance(error, HTTPClientError) and error.code == NOT_FOUND
    return NOT_FOUND if is_unknown else UNAVAILABLE
