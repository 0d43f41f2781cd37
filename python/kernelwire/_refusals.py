"""Refusing a browser before its websocket is open."""

from __future__ import annotations

from typing import Any, NoReturn

from tornado.web import HTTPError

from kernelwire._compat.tornado import accepts_origin

__all__ = ["check_origin", "refuse"]


def refuse(connection: Any, status: int, reason: str, detail: str = "") -> NoReturn:
    """End the handshake. The exception has no log message: tornado would add the address."""
    why = f"{reason}: {detail}" if detail else reason
    connection.log.warning("Refused a connection to kernel %s: %s", connection.kernel_id, why)
    raise HTTPError(status, reason=reason)


def check_origin(connection: Any) -> None:
    """Refuse what the websocket would refuse as well, before anybody else is asked anything."""
    if not accepts_origin(connection.websocket_handler):
        refuse(connection, 403, "Cross origin websockets not allowed")
