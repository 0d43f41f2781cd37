"""Names and numbers of Jupyter's protocols."""

from __future__ import annotations

__all__ = ["DELIMITER", "MIN_PARTS", "V1"]

V1 = "v1.kernel.websocket.jupyter.org"
"""The websocket subprotocol whose messages are the kernel's, part by part."""

DELIMITER = b"<IDS|MSG>"
"""The frame between the routing identities and the signed message."""

MIN_PARTS = 4
"""Header, parent header, metadata and content."""
