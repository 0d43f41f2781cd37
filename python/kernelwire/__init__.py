"""A Rust-accelerated bridge between Jupyter kernels and browsers.

Installing the package switches it on for the Jupyter servers of the environment; see
:func:`kernelwire.extension._link_jupyter_server_extension` for when it steps aside.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kernelwire._version import __version__
from kernelwire.extension import (
    _jupyter_server_extension_points,
    _link_jupyter_server_extension,
    _load_jupyter_server_extension,
    _start_jupyter_server_extension,
)

if TYPE_CHECKING:
    from kernelwire.connection import KernelwireWebsocketConnection
    from kernelwire.gateway import KernelwireGatewayConnection
    from kernelwire.kernels import KernelwireKernelsMixin, KernelwireMappingKernelManager

__all__ = [
    "KernelwireGatewayConnection",
    "KernelwireKernelsMixin",
    "KernelwireMappingKernelManager",
    "KernelwireWebsocketConnection",
    "__version__",
    "_jupyter_server_extension_points",
    "_link_jupyter_server_extension",
    "_load_jupyter_server_extension",
    "_start_jupyter_server_extension",
]

_HOMES = {
    "KernelwireGatewayConnection": "kernelwire.gateway.connection",
    "KernelwireKernelsMixin": "kernelwire.kernels.manager",
    "KernelwireMappingKernelManager": "kernelwire.kernels.manager",
    "KernelwireWebsocketConnection": "kernelwire.connection.websocket",
}


def __getattr__(name: str) -> Any:
    """Import the classes on first use.

    Where the native extension cannot be loaded, ``import kernelwire`` must work all the same: the
    server imports it to ask what to do, and the answer then is stock's class and a log line.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
