"""What the session of a connection was asked by the kernel, and has not answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import proxy

from kernelwire._protocol import DELIMITER, STDIN
from kernelwire.connection.nudge import current_state
from kernelwire.log.backlog import Backlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection

    from kernelwire.kernels.prompts import Prompts
    from kernelwire.log.client import Client

__all__ = ["SessionPrompt"]


class SessionPrompt:
    """What the session of one connection is asked.

    Does nothing where the manager of the kernels is not kernelwire's.
    """

    def __init__(self, connection: ZMQChannelsWebsocketConnection) -> None:
        # The connection has this, and is to be freed as soon as nobody else refers to it.
        self._connection: ZMQChannelsWebsocketConnection = proxy(connection)
        self._prompts: Prompts | None = getattr(connection.multi_kernel_manager, "prompts", None)

    def noter(self) -> Callable[[list[bytes]], None] | None:
        """Return what is to be called with each message on the channel; ``None`` for nothing."""
        connection, prompts = self._connection, self._prompts
        if prompts is None:
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
