"""The signatures of the messages that a session has taken: none is taken twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernelwire._compat.jupyter import cull_digest_history
from kernelwire._protocol import DELIMITER

if TYPE_CHECKING:
    from jupyter_client.session import Session

__all__ = ["Signatures"]


class Signatures:
    """What the pump must know, and leave behind, of a session's ``digest_history``.

    Only for the default websocket protocol: with the other, messages are not verified.

    Source: ``jupyter_client.session.Session.deserialize``.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def known(self) -> set[bytes]:
        """Return the set to look in and to add to; a fresh one where the session remembers none."""
        session = self._session
        return session.digest_history if session.digest_history_size else set()

    def cull(self) -> None:
        """Forget some, at random, where there are more than ``digest_history_size``."""
        session = self._session
        if len(session.digest_history) > session.digest_history_size > 0:
            cull_digest_history(session)

    def forget(self, message: list[bytes]) -> None:
        """Let a message pass once more that the pump has given back."""
        self._session.digest_history.discard(message[message.index(DELIMITER) + 1])
