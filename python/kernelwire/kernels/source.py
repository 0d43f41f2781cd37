"""Where a kernel's output is received from: by the engine, where it can connect as upstream would."""

from __future__ import annotations

from time import time
from typing import Any

import zmq
import zmq.asyncio

from kernelwire._compat import Feature, is_off
from kernelwire._compat.jupyter import connects_as_upstream, iopub_url
from kernelwire.log.kernel_log import loop_clock, signing_key
from kernelwire.sockets.driver import driver
from kernelwire.sockets.subscription import Subscription

__all__ = ["subscription_to"]

_TRANSPORTS = ("tcp", "ipc")

_CONTEXTS = (zmq.Context, zmq.asyncio.Context)

_CURVE = {
    zmq.CURVE_SECRETKEY: "curve_secretkey",
    zmq.CURVE_PUBLICKEY: "curve_publickey",
    # The connection file has one pair of keys, which is the server's as well.
    zmq.CURVE_SERVERKEY: "curve_publickey",
}


def subscription_to(kernel: Any) -> Subscription | None:
    """Make a subscription of the engine's to a kernel; ``None`` where the event loop must receive.

    The engine's sockets are made as ``KernelManager.connect_iopub`` makes them, in a context of its
    own. What makes them in another way, messages that are signed in another way than the engine can
    check, and an event loop with a clock of its own are left to the event loop.
    """
    if is_off(Feature.ENGINE_READING) or not driver().engine or loop_clock() is not time:
        return None
    if not connects_as_upstream(kernel):
        return None
    plain = kernel.transport in _TRANSPORTS and type(kernel.context) in _CONTEXTS
    if not plain or signing_key(kernel.session) is None:
        return None
    options: dict[int, Any] = dict(getattr(kernel.context, "sockopts", {}))
    if getattr(kernel, "curve_publickey", None) is not None:
        options |= {option: getattr(kernel, name) for option, name in _CURVE.items()}
    # The log bounds what waits, and not libzmq.
    options |= {zmq.RCVHWM: 0, zmq.SUBSCRIBE: b""}
    return Subscription(kernel.loop, iopub_url(kernel), options)
