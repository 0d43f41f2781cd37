"""Questions that a kernel has asked, for as long as nobody has answered them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernelwire._protocol import DELIMITER, STDIN
from kernelwire.clients import Backlog
from kernelwire.nudge import current_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelwire.clients import Client
    from kernelwire.lifecycle import LifeCycle

__all__ = ["Prompts", "SessionPrompt"]

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


class SessionPrompt:
    """What the session of one connection is asked.

    Does nothing where the manager of the kernels is not kernelwire's, nor for a client without a
    session id.
    """

    def __init__(self, connection: LifeCycle) -> None:
        self._connection = connection
        self._prompts: Prompts | None = getattr(connection.multi_kernel_manager, "prompts", None)

    def noter(self) -> Callable[[list[bytes]], None] | None:
        """Return what is to be called with each message on the channel; ``None`` for nothing."""
        connection, prompts = self._connection, self._prompts
        if prompts is None or not connection._can_return():
            return None
        kernel_id, session_key = connection.kernel_id, connection.session_key
        unpack = connection.session.unpack

        def note(frames: list[bytes]) -> None:
            if _is_question(frames, unpack):
                prompts.ask(kernel_id, session_key, frames)

        return note

    def answered(self) -> None:
        """Note that the client has sent an answer."""
        if self._prompts is not None:
            self._prompts.answer(self._connection.kernel_id, self._connection.session_key)

    def ask_again(self, client: Client) -> None:
        """Put the question behind what the client has missed, if the kernel still waits.

        It does not if it is not busy, or with something else than what has asked: another cell that
        asks would take the answer for its own. A later question may be among what was missed.
        """
        if self._prompts is None:
            return
        connection = self._connection
        frames = self._prompts.pending(connection.kernel_id, connection.session_key)
        if frames is None or any(channel == STDIN for channel, _ in Backlog(client)):
            return
        if current_state(connection) != "busy":
            self.answered()
        elif self._may_wait(frames):
            client.notify(STDIN, frames)

    def _may_wait(self, frames: list[bytes]) -> bool:
        """Whether what has asked may still run."""
        connection = self._connection
        asker = _asker(frames, connection.session.unpack)
        return asker is None or bool(
            connection.multi_kernel_manager.may_run(connection.kernel_id, asker)
        )


def _is_question(frames: list[bytes], unpack: Any) -> bool:
    """Whether a message is an ``input_request``; ``unpack`` parses its header."""
    try:
        return bool(unpack(frames[frames.index(DELIMITER) + 2])["msg_type"] == "input_request")
    except Exception:
        return False  # whatever it is, others find out


def _asker(frames: list[bytes], unpack: Any) -> str | None:
    """Return the id of the request that asks; ``None`` where it is not told."""
    try:
        asker = unpack(frames[frames.index(DELIMITER) + 3])["msg_id"]
        asker.encode()
    except Exception:
        return None
    return str(asker)
