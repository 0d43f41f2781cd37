"""Questions that a kernel has asked, for as long as nobody has answered them."""

from __future__ import annotations

__all__ = ["Prompts"]

MAX_SESSIONS = 16
"""Sessions of a kernel whose questions are remembered; those that were asked last."""

MAX_BYTES = 1 << 16
"""Bytes of a question that is remembered, at most."""


class Prompts:
    """The last question that each session of each kernel was asked and has not answered.

    Kernels wait for one answer at a time: a further question takes the place of the one before.
    """

    def __init__(self) -> None:
        self._asked: dict[str, dict[str, list[bytes]]] = {}

    def ask(self, kernel_id: str, session_key: str, frames: list[bytes]) -> None:
        """Remember a question, within bounds."""
        sessions = self._asked.setdefault(kernel_id, {})
        sessions.pop(session_key, None)
        if sum(map(len, frames)) <= MAX_BYTES:
            sessions[session_key] = frames
        while len(sessions) > MAX_SESSIONS:
            del sessions[next(iter(sessions))]

    def answer(self, kernel_id: str, session_key: str) -> None:
        """Forget a question: the session has answered."""
        self._asked.get(kernel_id, {}).pop(session_key, None)

    def pending(self, kernel_id: str, session_key: str) -> list[bytes] | None:
        """Return the question that a session has not answered."""
        return self._asked.get(kernel_id, {}).get(session_key)

    def forget(self, kernel_id: str) -> None:
        """Forget all questions of a kernel: it does not wait for the answers any more."""
        self._asked.pop(kernel_id, None)
