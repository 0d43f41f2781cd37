"""Kernels that the server did not start, and whose connection files it has found."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from traitlets import Dict
from traitlets.config import LoggingConfigurable

from kernelwire._compat.jupyter import count_connections, count_no_more

if TYPE_CHECKING:
    from jupyter_server.services.kernels.kernelmanager import MappingKernelManager as _Base
else:
    _Base = LoggingConfigurable

__all__ = ["ExternalMixin"]


class ExternalMixin(_Base):
    """Watches such kernels, counts their clients and keeps output for these, as for any other.

    Upstream lists them, and no more: they are idle without a client for ever, which is when a kernel is
    culled, and nothing is kept for a tab whose connection drops.
    """

    _external: Any = Dict()
    """By kernel, its manager, for those that are watched."""

    def list_kernel_ids(self) -> list[str]:
        """List the kernels; those whose connection file has come or gone since are new or forgotten."""
        kernel_ids: list[str] = super().list_kernel_ids()
        found = getattr(self, "kernel_id_to_connection_file", {})
        for kernel_id in self._external.keys() - found.keys():
            kernel = self._external.pop(kernel_id)
            count_no_more(self, kernel_id)
            self._forget_kernel(kernel_id, kernel)
        with suppress(RuntimeError):  # without a loop, nothing can be watched
            asyncio.get_running_loop()
            # To make a kernel's manager asks for the list as well: then it is not there yet.
            for kernel_id in (found.keys() & self._kernels.keys()) - self._external.keys():
                self._take_in(kernel_id)
        return kernel_ids

    def _take_in(self, kernel_id: str) -> None:
        """Watch a kernel that was found."""
        kernel = self._external[kernel_id] = self._kernels[kernel_id]
        count_connections(self, kernel_id, kernel.ports)
        state, last_activity = kernel.execution_state, kernel.last_activity
        try:
            self.start_watching_activity(kernel_id)
        except Exception:  # whatever its file says, others are listed
            self.log.exception("Kernel %s, which was found, cannot be watched", kernel_id)
        # It is up, as it has written its file; there is no process to be asked whether it starts.
        self._found_up(kernel_id, state)
        kernel.last_activity = last_activity

    if TYPE_CHECKING:  # the other mixins'

        def _found_up(self, kernel_id: str, state: str) -> None: ...
        def _forget_kernel(self, kernel_id: str, kernel: Any) -> None: ...
