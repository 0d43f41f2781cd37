"""kernelwire inside a Kernel Gateway (``jupyter_kernel_gateway`` 3).

A Kernel Gateway loads no server extensions: it has to be told. ``kernel_gateway_config.py`` beside
this file does so; docs/scaling-out.md says how to use it.
"""

from __future__ import annotations

from kernel_gateway.services.kernels.manager import SeedingMappingKernelManager

from kernelwire.kernels.manager import KernelwireKernelsMixin

__all__ = ["KernelwireSeedingMappingKernelManager"]


class KernelwireSeedingMappingKernelManager(KernelwireKernelsMixin, SeedingMappingKernelManager):
    """The gateway's manager, whose kernels are read natively; kernels are seeded as before."""
