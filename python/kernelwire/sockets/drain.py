"""Whether messages can be received natively from the libzmq that pyzmq uses.

pyzmq's ``Socket.underlying`` is libzmq's socket, for passing to libzmq's functions. Those are looked
up in pyzmq's own extension, so that they are the very ones that made the socket. Where that does
not work (no ``dlsym``, pyzmq's cffi backend, libzmq linked in without its names), pyzmq receives
and the pump is fed from Python: slower, and the same in every other way.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import zmq

from kernelwire import _native
from kernelwire._compat.pyzmq import extension_path
from kernelwire.sockets.choice import chosen

ENVIRONMENT = "KERNELWIRE_DRAIN"
"""Set to ``python`` to have pyzmq receive where native receiving would work."""

CHOICES = ("", "native", "python")
"""What it may be; anything but ``python`` is native receiving where that works."""

_PROBE = [b"kernelwire", b"", bytes(range(256)) * 256]
"""An inline part, an empty one, and one that libzmq keeps on the heap."""


class Drain(NamedTuple):
    """How messages are received, and why."""

    native: bool
    reason: str


@lru_cache(maxsize=1)
def drain() -> Drain:
    """Find out, once for the process, how messages can be received."""
    if chosen(ENVIRONMENT, CHOICES) == "python":
        return Drain(native=False, reason=f"{ENVIRONMENT}=python is set")
    try:
        _load()
        _self_test()
    except Exception as error:  # whatever is wrong, there is the other way
        return Drain(native=False, reason=str(error))
    return Drain(native=True, reason=f"libzmq {zmq.zmq_version()} of pyzmq {zmq.pyzmq_version()}")


def _load() -> None:
    """Find libzmq in the extension of pyzmq's backend."""
    _native.load_libzmq(extension_path(), zmq.zmq_version_info()[:3])


def _self_test() -> None:
    """Receive one multipart message natively that pyzmq has sent, and then none."""
    with (
        zmq.Context() as context,
        context.socket(zmq.PAIR) as here,
        context.socket(zmq.PAIR) as there,
    ):
        here.bind("inproc://kernelwire-self-test")
        there.connect("inproc://kernelwire-self-test")
        there.send_multipart(_PROBE)
        if _native.receive(here) != _PROBE or _native.receive(here) is not None:
            raise OSError("the self-test received something else than was sent")
