"""What a cursor waits for; see ``_native.Cursor.write``."""

from __future__ import annotations

__all__ = ["CLOSE", "HOLD", "MORE", "ROOM", "TIME"]

MORE, ROOM, HOLD, CLOSE, TIME = 1, 2, 4, 5, 6
