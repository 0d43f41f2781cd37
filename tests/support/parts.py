"""A cell of the scripted kernel in parts, each of which the test starts when it wants to."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from support.fake_kernel import script
from support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

Step = dict[str, Any]


class Parts:
    """Steps that wait for `run`, in order, between the busy and the idle of one request."""

    def __init__(self, folder: Path, *parts: Step | tuple[Step, ...]) -> None:
        self._name = uuid.uuid4().hex
        self._folder = folder
        self._next = 0
        waiting: list[Step] = []
        for place, part in enumerate(parts):
            waiting += (
                {"do": "wait_for", "path": str(self._path("start", place))},
                *(part if isinstance(part, tuple) else (part,)),
                {"do": "touch", "path": str(self._path("end", place))},
            )
        self.code = script(*waiting)

    def run(self) -> None:
        """Start the next part, and return when the kernel has published it."""
        place, self._next = self._next, self._next + 1
        self._path("start", place).touch()
        wait_until(self._path("end", place).exists, what=f"the end of part {place}")

    def _path(self, what: str, place: int) -> Path:
        return self._folder / f"{self._name}-{what}-{place}"
