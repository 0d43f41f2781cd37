"""Messages that the server makes itself: they bear the session of the kernel that they are about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jupyter_client.session import Session

__all__ = ["make_notice", "status_notice"]


def make_notice(
    session: Session, msg_type: str, content: dict[str, Any], parent: Any, *, sender: str
) -> dict[str, Any]:
    """Make a message in the name of the kernel whose session is ``sender``.

    Upstream makes it in the name of the client's. JupyterLab takes a message with another session
    than the one before for another process, and gives up what it has not handled by then (source:
    ``DefaultKernel._assertCurrentMessage`` in ``@jupyterlab/services``).
    """
    header = session.msg_header(msg_type)
    if sender:
        header["session"] = sender
    return session.msg(msg_type, content, parent=parent, header=header)


def status_notice(session: Session, status: str, *, sender: str) -> list[bytes]:
    """Make the frames of a message that says what has become of the kernel."""
    content = {"execution_state": status}
    return session.serialize(make_notice(session, "status", content, None, sender=sender))
