"""What a cursor waits for; see ``_native.Cursor.write``."""

from __future__ import annotations

__all__ = ["CLOSE", "HOLD", "HOLD_SECONDS", "MORE", "ROOM", "TIME"]

MORE, ROOM, HOLD, CLOSE, TIME = 1, 2, 4, 5, 6

HOLD_SECONDS = 0.05
"""Seconds after which a cursor that waits for :data:`TIME` is asked again."""
