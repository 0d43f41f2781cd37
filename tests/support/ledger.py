"""What a session has seen of its kernel, and what it must see next.

The model: a kernel process numbers its outputs without gaps. A session sees consecutive numbers,
and no message twice, over all its connections. Where it may have missed some, it is excused: the
next number may be any later one, once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.messages import Message


class Ledger:
    """One session's, from its first connection to its last."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.excused = True
        self.position = 0
        """The number that the next output must have."""
        self.outputs = 0
        self.owed: set[str] = set()
        """Requests whose replies must still come."""
        self._kernel: str | None = None
        self._end: int | None = None
        self._former: set[str | None] = set()
        self._seen: set[str] = set()

    @property
    def messages(self) -> int:
        """How many of the kernel's messages were seen."""
        return len(self._seen)

    @property
    def may_miss(self) -> bool:
        """Whether its sockets may still have to find the kernel, or are not known to have."""
        return self.excused or self._end is not None

    def excuse(self) -> None:
        """Let the session miss what has come by now."""
        self.excused = True
        self.owed.clear()

    def expect_end(self, kernel: str, position: int) -> None:
        """Note how many outputs there were of a kernel that is about to end."""
        if kernel == self._kernel:
            self._end = position

    def see(self, messages: Sequence[Message]) -> None:
        """Check messages, in the order of their arrival."""
        for message in messages:
            # The ids of what the server says itself begin with the client's session, and count anew
            # with each connection.
            is_servers = message.msg_id.startswith(f"{self.session_id}_")
            key = f"{message.msg_id} {message.header['date']}" if is_servers else message.msg_id
            assert key not in self._seen, f"{self.session_id}: twice: {message}"
            self._seen.add(key)
            if is_servers:
                continue
            if message.msg_type.endswith("_reply"):
                self.owed.discard(str(message.parent_id))
            if "number" in message.metadata:
                self._see_output(message.header["session"], message.metadata["number"])

    def _see_output(self, kernel: str, number: int) -> None:
        if kernel == self._kernel:
            right = number >= self.position if self.excused else number == self.position
            excuse = " or later" if self.excused else ""
            assert right, f"{self.session_id}: {number} instead of {self.position}{excuse}"
        else:
            self._meet(kernel)
        self.position, self.excused = number + 1, False
        self.outputs += 1

    def _meet(self, kernel: str) -> None:
        """Go on with another process, whose first outputs nobody may have waited for."""
        assert kernel not in self._former, f"{self.session_id}: a former kernel's output"
        complete = self.excused or self._end in (None, self.position)
        assert complete, f"{self.session_id}: {self.position} of {self._end} outputs before the end"
        self._former.add(self._kernel)
        self._kernel, self._end = kernel, None

    def settle(self, kernel: str, position: int) -> None:
        """Check that all there is was seen: no excuse holds from here on."""
        if kernel != self._kernel:
            self._meet(kernel)
        else:
            seen = self.excused or self.position == position
            assert seen, f"{self.session_id}: {self.position} outputs instead of {position}"
        self.position, self.excused = position, False
