"""For kernels of ipykernel: output waits in the kernel instead of being dropped there.

A kernel's PUB socket drops what does not fit its queue, 1,000 messages by default, before any server
can see it. This sets no limit. The server has the kernels that it starts with its own interpreter
read ``ipykernel_config.py``, which does so; elsewhere, two lines in ``ipython_kernel_config.py`` do::

    from kernelwire.ipykernel import keep_output
    keep_output()

Only what ipykernel imports as well is imported here, and nothing that fails here fails the kernel.
"""

from __future__ import annotations

import logging
from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any

import zmq

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["keep_output"]

_log = logging.getLogger(__name__)


def keep_output(application: Any = None) -> None:
    """Have ipykernel make its iopub socket with a queue that has no limit; once is enough.

    ``application`` is the class that makes the sockets, ``IPKernelApp`` by default.

    That must be done before the socket is bound, so by a configuration file, not by an extension of
    IPython. A connection has the limit that the socket had when it was bound, and setting the option
    later crashes a kernel that another client is just leaving: libzmq then writes to the other half
    of each connection, ended or not. Source: libzmq's ``socket_base_t::update_pipe_options``.
    """
    try:
        if application is None:
            application = import_module("ipykernel.kernelapp").IPKernelApp
        if not hasattr(application.init_iopub, "keeps_output"):
            application.init_iopub = _lifting_limit(application.init_iopub)
    except Exception:
        _log.warning("Output that waits in this kernel has a limit", exc_info=True)


def _lifting_limit(make: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(make)
    def init_iopub(self: Any, context: zmq.Context[Any], *args: Any, **kwargs: Any) -> Any:
        before = dict(context.sockopts)
        context.sockopts[zmq.SNDHWM] = 0
        try:
            return make(self, context, *args, **kwargs)
        finally:
            context.sockopts.clear()
            context.sockopts.update(before)

    init_iopub.keeps_output = True  # type: ignore[attr-defined]  # for who asks whether this was done
    return init_iopub
