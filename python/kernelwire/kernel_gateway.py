"""kernelwire inside a Kernel Gateway (``jupyter_kernel_gateway`` 3).

A Kernel Gateway loads no server extensions: it has to be told. ``kernel_gateway_config.py`` beside
this file does so; docs/scaling-out.md says how to use it.
"""

from __future__ import annotations

from typing import Any

from kernel_gateway.services.kernels.manager import SeedingMappingKernelManager

from kernelwire.in_use import CONNECTION_TRAIT, report_of_manager
from kernelwire.kernels.manager import KernelwireKernelsMixin

__all__ = ["KernelwireSeedingMappingKernelManager"]


class KernelwireSeedingMappingKernelManager(KernelwireKernelsMixin, SeedingMappingKernelManager):
    """The gateway's manager, whose kernels are read natively; kernels are seeded as before."""

    def __init__(self, **kwargs: Any) -> None:
        """Make a manager, and tell the gateway's operator what goes on."""
        super().__init__(**kwargs)
        # Other programs may make the gateway's manager.
        connections = getattr(self.parent, CONNECTION_TRAIT, None)
        if connections is not None:
            self.log.info("kernelwire is %s", report_of_manager(connections))
