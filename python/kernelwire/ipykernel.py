"""An extension for ipykernel: output waits in the kernel instead of being dropped there.

A kernel's PUB socket drops what does not fit its queue, 1,000 messages by default, before any server
can see it. This sets no limit. The server adds it to the kernels that it starts with its own
interpreter; elsewhere, one line in ``ipython_kernel_config.py`` does::

    c.IPKernelApp.extensions = ["kernelwire.ipykernel"]

Only the standard library and pyzmq are imported here, and nothing that fails here fails the kernel.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import zmq

__all__ = ["load_ipython_extension"]

_log = logging.getLogger(__name__)


def load_ipython_extension(shell: Any) -> None:
    """Let the queue of the kernel's iopub socket grow without a limit."""
    try:
        _lift_limit(shell)
        _load_configured(shell)
    except Exception:
        _log.warning("The kernel's output queue keeps its limit", exc_info=True)


def _lift_limit(shell: Any) -> None:
    """Set the option on the thread that owns the socket: sockets are not thread-safe."""
    thread = getattr(getattr(shell, "kernel", None), "iopub_thread", None)
    if thread is not None:  # otherwise the shell is not ipykernel's
        thread.schedule(partial(_set_no_limit, thread.socket))


def _set_no_limit(socket: Any) -> None:
    try:
        socket.setsockopt(zmq.SNDHWM, 0)  # libzmq applies it to existing connections as well
    except Exception:
        _log.warning("The kernel's output queue keeps its limit", exc_info=True)


def _load_configured(shell: Any) -> None:
    """Load what a configuration file names where the command line's argument took its place."""
    files = getattr(getattr(shell, "parent", None), "_loaded_config_files", {})
    for config in getattr(files, "values", list)():
        names = config.get("InteractiveShellApp", {}).get("extra_extensions", ())
        for name in names if isinstance(names, list) else ():
            if name not in shell.extension_manager.loaded and name != __name__:
                shell.extension_manager.load_extension(name)
