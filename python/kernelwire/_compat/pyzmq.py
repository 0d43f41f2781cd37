"""Names that pyzmq does not promise."""

from __future__ import annotations

import asyncio
from typing import Any

import zmq
from zmq.eventloop.zmqstream import ZMQStream

from kernelwire._compat._names import Feature, HostName

__all__ = ["NAMES", "extension_path", "find_missing"]


def _hook(name: str, purpose: str) -> HostName:
    return HostName(name, "ZMQStream", "pyzmq", purpose, Feature.STREAMS)


NAMES = (
    _hook("_handle_events", "overridden: the reader takes all that is ready"),
    _hook("_handle_recv", "overridden: a flush takes all that is ready"),
    _hook("_handle_send", "overridden: all that libzmq takes is sent in one turn"),
    _hook("_run_callback", "overridden: an exception in a callback does not end the stream"),
    _hook("_rebuild_io_state", "lets a stream go on after an exception"),
    _hook("_check_closed", "raises for a closed stream, as upstream's methods do"),
    _hook("_send_queue", "replaced by one that counts bytes"),
    HostName("_zmq", "zmq.backend.cython", "pyzmq", "see extension_path", None),
)
"""``ZMQStream``'s are hooks: ``KernelwireStream`` uses them on itself."""


def extension_path() -> str:
    """``zmq.backend.cython._zmq``: where pyzmq's extension is, in which libzmq's functions are.

    Raises where pyzmq runs on another backend; pyzmq receives then, see ``kernelwire.sockets.drain``.
    """
    from zmq.backend.cython import _zmq  # noqa: PLC0415 (there is none with other backends)

    if not issubclass(zmq.Socket, _zmq.Socket):
        raise OSError("pyzmq does not run on its Cython extension")
    return _zmq.__file__


_MESSAGE = [b"kernelwire", b"self-test"]


class _Probe(ZMQStream):
    """Notes which of its hooks are called."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.called: set[str] = set()
        super().__init__(socket)

    def _handle_events(self, fd: Any, events: int) -> None:
        self.called.add("_handle_events")
        super()._handle_events(fd, events)

    def _handle_recv(self) -> None:
        self.called.add("_handle_recv")
        super()._handle_recv()

    def _run_callback(self, callback: Any, *args: Any, **kwargs: Any) -> None:
        self.called.add("_run_callback")
        super()._run_callback(callback, *args, **kwargs)


async def find_missing() -> set[str]:
    """Send a message from stream to stream over inproc; returns the names that do not work."""
    context = zmq.Context()
    here, there = _Probe(context.socket(zmq.PAIR)), _Probe(context.socket(zmq.PAIR))
    try:
        here.socket.bind("inproc://kernelwire-self-test")
        there.socket.connect("inproc://kernelwire-self-test")
        return await _exchange(here, there)
    finally:
        for stream in (here, there):
            stream.close(linger=0)
        context.term()


async def _exchange(here: _Probe, there: _Probe) -> set[str]:
    names = {name.name for name in NAMES if name.owner == "ZMQStream"}
    missing = {name for name in names if not hasattr(here, name)}
    try:
        extension_path()
    except Exception:  # another backend may raise anything; `kernelwire.sockets.drain` says what
        missing.add("_zmq")
    arrived: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
    here.on_recv(arrived.set_result)
    there.send_multipart(_MESSAGE)
    if "_send_queue" not in missing and there._send_queue.qsize() != 1:
        missing.add("_send_queue")
    if await arrived != _MESSAGE:
        raise OSError("the self-test received something else than was sent")
    return missing | ({"_handle_events", "_handle_recv", "_run_callback"} - here.called)
