"""A cell of the scripted kernel in parts, each of which the test starts when it wants to."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from support.fake_kernel import script
from support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from support.server import Server

Step = dict[str, Any]
CHUNKS = 15


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


class Chunks:
    """Much output, of which the next part comes when the server has received the last.

    So that what waits in sockets for a server that is busy is not what is measured. The server must
    have ``execution_state_policy = "stock"``, which takes any word for a state.
    """

    def __init__(self, folder: Path, output: Step) -> None:
        part = output | {"count": output["count"] // CHUNKS}
        states = ({"do": "status", "state": _state(number)} for number in range(CHUNKS))
        self._parts = Parts(folder, *((part, state) for state in states))
        self.code = self._parts.code

    def run(self, server: Server, kernel_id: str) -> None:
        """Have the kernel publish everything, and the server receive it."""
        for number in range(CHUNKS):
            self._parts.run()
            state = _state(number) if number < CHUNKS - 1 else "idle"
            server.wait_for_state(kernel_id, state, timeout=30)


def _state(number: int) -> str:
    return f"chunk {number}"
