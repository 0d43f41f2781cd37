"""The manager of a server's kernels: the class, and the parts that it is made of."""

from kernelwire.kernels.manager import KernelwireKernelsMixin, KernelwireMappingKernelManager

__all__ = ["KernelwireKernelsMixin", "KernelwireMappingKernelManager"]
