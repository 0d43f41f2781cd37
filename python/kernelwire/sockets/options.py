"""Options of the sockets that others make."""

from __future__ import annotations

import socket
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import zmq

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["bounded_sending", "keep_little_unsent", "sending_to_peers", "unbounded_receiving"]

UNSENT_BYTES = 64 << 10
"""Bytes that a socket takes from us before it has sent them: a network's worth, and not megabytes."""

MAX_SENT_MESSAGES = 4
"""Messages of any size that libzmq holds for a kernel that does not read."""


def keep_little_unsent(connection: Any) -> None:
    """Have the operating system take no more for a client than it can soon send, where it knows how."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None:
        connection.setsockopt(socket.IPPROTO_TCP, option, UNSENT_BYTES)


def bounded_sending(context: Any) -> AbstractContextManager[None]:
    """Have the sockets that are made meanwhile in ``context`` keep few messages in libzmq.

    Set on a socket that is connected already, the bound may make it wait for ever: the other end
    of libzmq's pipe acknowledges less often than that many messages, until it has heard of it. One
    that the context has already is kept.
    """
    return _socket_option(context, zmq.SNDHWM, MAX_SENT_MESSAGES, keep=True)


def unbounded_receiving(context: Any) -> AbstractContextManager[None]:
    """Have libzmq drop nothing that the sockets receive which are made meanwhile in ``context``.

    It would where messages go one by one: more can come than can be handled, and what waits then is
    the log's to bound. Set here and for good: a socket whose ``RCVHWM`` is set back from 0 may never
    receive again.
    """
    return _socket_option(context, zmq.RCVHWM, 0)


def sending_to_peers(context: Any) -> AbstractContextManager[None]:
    """Have the sockets that are made meanwhile in ``context`` take messages only once they are connected.

    By whether they do it can be told whether the other end is there, and so whether it can send.
    """
    return _socket_option(context, zmq.IMMEDIATE, 1)


@contextmanager
def _socket_option(context: Any, option: int, value: int, *, keep: bool = False) -> Iterator[None]:
    """Have sockets that are made meanwhile get an option; ``keep`` what the context has for it."""
    options = getattr(context, "sockopts", None)
    if not isinstance(options, dict):
        yield
        return
    before = dict(options)
    options[option] = options.get(option, value) if keep else value
    try:
        yield
    finally:
        options.clear()
        options.update(before)
