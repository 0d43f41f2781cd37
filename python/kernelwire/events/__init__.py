"""Events for the server's event logger (``jupyter_events``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_events import EventLogger

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

__all__ = ["OUTPUT_DROPPED", "emit", "register"]

OUTPUT_DROPPED = "https://events.jupyter.org/kernelwire/output_dropped/v1"
"""A client is told that it does not get some output."""

_SCHEMA = Path(__file__).parent / "output_dropped.yaml"


def register(app: ServerApp) -> None:
    """Have a server's event logger know the events, if it has one."""
    event_logger = getattr(app, "event_logger", None)
    if event_logger is None:
        return
    try:
        if OUTPUT_DROPPED not in event_logger.schemas:
            event_logger.register_event_schema(_SCHEMA)
    except Exception as error:
        app.log.warning("kernelwire emits no events: %s", error)


def emit(settings: dict[str, Any], schema_id: str, data: dict[str, Any]) -> None:
    """Emit an event, where the server with these settings has a logger that knows it."""
    event_logger = settings.get("event_logger")
    if isinstance(event_logger, EventLogger) and schema_id in event_logger.schemas:
        event_logger.emit(schema_id=schema_id, data=data)
