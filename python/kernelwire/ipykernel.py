"""An extension for ipykernel: output waits in the kernel instead of being dropped there.

A kernel's PUB socket drops what does not fit its queue, 1,000 messages by default, before any server
can see it. This sets no limit. The server adds it to the kernels that it starts with its own
interpreter; elsewhere, one line in ``ipython_kernel_config.py`` does::

    c.IPKernelApp.extensions = ["kernelwire.ipykernel"]

Only what ipykernel imports as well is imported here, and nothing that fails here fails the kernel.
"""

from __future__ import annotations

import logging
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq
from traitlets.config.loader import JSONFileConfigLoader, PyFileConfigLoader

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["load_ipython_extension"]

MESSAGES = 100
"""Messages between two calls for new connections; their queues hold 1,000 by default."""

_log = logging.getLogger(__name__)


def load_ipython_extension(shell: Any) -> None:
    """Let the queue of the kernel's iopub socket grow without a limit."""
    _guarded(_lift_limit, shell)
    _guarded(_load_configured, shell)


def _guarded(step: Callable[[Any], None], argument: Any) -> None:
    """Take a step that may fail without harm."""
    try:
        step(argument)
    except Exception:
        _log.warning("kernelwire.ipykernel does not do all that it should", exc_info=True)


def _lift_limit(shell: Any) -> None:
    """Set the option on the thread that owns the socket: sockets are not thread-safe."""
    thread = getattr(getattr(shell, "kernel", None), "iopub_thread", None)
    if thread is not None:  # otherwise the shell is not ipykernel's
        thread.schedule(partial(_guarded, _set_no_limit, thread.socket))


def _set_no_limit(socket: Any) -> None:
    """Lift the limit for the connections that exist, and again and again for those to come.

    A new connection has the limit that the socket had when it was bound.
    """
    lift = partial(socket.setsockopt, zmq.SNDHWM, 0)
    lift()
    socket.send_multipart = _calling_often(lift, socket.send_multipart)


def _calling_often(lift: Callable[[], None], send: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``send``, with ``lift`` called before a queue of the default size can be full."""
    sent = count()

    def send_multipart(*args: Any, **kwargs: Any) -> Any:
        if next(sent) % MESSAGES == 0:
            lift()
        return send(*args, **kwargs)

    return send_multipart


def _load_configured(shell: Any) -> None:
    """Load what a configuration file names where the command line's argument took its place."""
    loaded = shell.extension_manager.loaded
    for name in _configured(shell):
        if name not in loaded and name != __name__:
            # As IPython does, with the others after one that fails.
            _guarded(shell.extension_manager.load_extension, name)


def _configured(shell: Any) -> list[str]:
    """Return the extra extensions that configuration files name; only those files are read again."""
    application = shell
    while application is not None and not hasattr(application, "loaded_config_files"):
        application = getattr(application, "parent", None)
    files = map(Path, getattr(application, "loaded_config_files", ()))
    return [name for file in files for name in _named_in(file)]


def _named_in(file: Path) -> list[str]:
    if "extra_extensions" not in file.read_text(encoding="utf-8"):
        return []
    loader = JSONFileConfigLoader if file.suffix == ".json" else PyFileConfigLoader
    config = loader(file.name, path=str(file.parent)).load_config()
    sections = (config.InteractiveShellApp, config.IPKernelApp)
    return [name for section in sections for name in _plain(section.get("extra_extensions", ()))]


def _plain(value: Any) -> list[str]:
    """Return a list that a configuration file may only have appended to."""
    return list(value.get_value([]) if hasattr(value, "get_value") else value)
