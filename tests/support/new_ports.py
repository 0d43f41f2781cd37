"""A manager of one kernel that gives it new ports with every restart, as remote ones do."""

from __future__ import annotations

from typing import Any

from jupyter_server.services.kernels.kernelmanager import ServerKernelManager


class NewPortsKernelManager(ServerKernelManager):
    """The stock one, but for the ports."""

    async def _async_restart_kernel(
        self, now: bool = False, newports: bool = False, **options: Any
    ) -> None:
        del newports
        await super()._async_restart_kernel(now=now, newports=True, **options)

    restart_kernel = _async_restart_kernel
