"""Kernels of ipykernel that this server starts get an output queue without a limit."""

from __future__ import annotations

import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_core.utils import ensure_async
from traitlets import Bool
from traitlets.config import LoggingConfigurable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_server.services.kernels.kernelmanager import MappingKernelManager as _Base
else:
    _Base = LoggingConfigurable

__all__ = ["LosslessMixin", "can_be_lossless"]

CONFIG_FILE = Path(__file__).parents[1] / "ipykernel_config.py"

ARGUMENT = f"--IPKernelApp.extra_config_file={CONFIG_FILE}"
"""Has the kernel read that file besides those that it reads anyway."""

MODULES = ("ipykernel", "ipykernel_launcher")

# What jupyter_client's ``format_kernel_cmd`` replaces by ``sys.executable``.
OWN_NAMES = ("python", f"python{sys.version_info[0]}", "python{}.{}".format(*sys.version_info[:2]))


class LosslessMixin(_Base):
    """Adds a configuration file to the arguments of kernels that can read it."""

    lossless_kernels = Bool(
        True,
        config=True,
        help="""Whether ipykernel's queue of output grows instead of dropping output.

        It applies to kernels of ipykernel that are started with the server's own interpreter. For
        others, call keep_output() of kernelwire.ipykernel in the kernel's configuration file.
        """,
    )

    async def start_kernel(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Start a kernel; see upstream."""
        if self.lossless_kernels and self._can_be_lossless(kwargs):
            self.log.debug(
                "Kernels of %s read kernelwire's configuration", kwargs.get("kernel_name")
            )
            kwargs["extra_arguments"] = [*(kwargs.get("extra_arguments") or ()), ARGUMENT]
        return await ensure_async(super().start_kernel(*args, **kwargs))

    def _can_be_lossless(self, kwargs: dict[str, Any]) -> bool:
        """Whether the kernel that is to be started can read the configuration."""
        if kwargs.get("kernel_id") in self._kernels:
            return False
        try:
            name = kwargs.get("kernel_name") or self.default_kernel_name
            specs: Any = self.kernel_spec_manager
            spec = specs.get_kernel_spec(name)
            provisioner = spec.metadata.get("kernel_provisioner", {}).get("provisioner_name")
            if provisioner is None:
                factory = KernelProvisionerFactory.instance(parent=self.parent)
                provisioner = factory.default_provisioner_name
        except Exception:
            return False  # whatever is wrong with it is upstream's to report
        arguments = [*spec.argv, *(kwargs.get("extra_arguments") or ())]
        return provisioner == "local-provisioner" and can_be_lossless(arguments)


def can_be_lossless(arguments: Sequence[str]) -> bool:
    """Whether a kernel's command is this interpreter running ipykernel, with no such argument yet."""
    if not arguments or not _is_own(arguments[0]):
        return False
    launched = any(flag == "-m" and module in MODULES for flag, module in pairwise(arguments))
    return launched and not any(
        argument == "--config"
        or argument.startswith("--config=")
        or "extra_config_file" in argument
        for argument in arguments
    )


def _is_own(executable: str) -> bool:
    """Whether that is this interpreter; a link to it is the interpreter of another environment."""
    if executable in OWN_NAMES:
        return True
    # Not `resolve`, which would follow such links.
    return os.path.normcase(Path(executable).absolute()) == os.path.normcase(
        Path(sys.executable).absolute()
    )
