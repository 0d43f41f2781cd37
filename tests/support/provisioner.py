"""A kernel provisioner that launches kernels in a network namespace, as on another machine.

Like those of ``gateway_provisioners``, it learns only at the launch where the kernel is: the kernel
reads a connection file of its own, its address is not of this machine, and it is on other ports
after each restart.
"""

from __future__ import annotations

import json
import sys
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from jupyter_client.connect import port_names
from jupyter_client.provisioning import KernelProvisionerBase, LocalProvisioner
from traitlets import Unicode

from support import fake_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.namespaces import Namespace

NAME = "namespace-provisioner"
GROUP = "jupyter_client.kernel_provisioners"
FIRST_PORT = 20_000
KEEP_OUTPUT = "from kernelwire.ipykernel import keep_output\nkeep_output()\n"
"""What the documents say to put into the configuration of ipykernel on other machines."""


class NamespaceProvisioner(LocalProvisioner):
    """Launches kernels in the namespace that the kernel spec names.

    The process is a child of the server's, so it is signalled and watched as a local one is.
    """

    namespace = Unicode(config=True, help="The file by which the namespace is entered.")
    address = Unicode(config=True, help="The address of kernels in it.")

    _ports: ClassVar[Iterator[int]] = count(FIRST_PORT)
    """A server has its namespace for itself, so whatever it has not given away is free."""

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Prepare the command; a local kernel's ports and connection file are not made."""
        kwargs.pop("transport_encryption", None)
        assert self.parent is not None
        command = self.parent.format_kernel_cmd(kwargs.pop("extra_arguments", []))
        return await KernelProvisionerBase.pre_launch(self, cmd=command, **kwargs)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Launch a kernel, and say where it is."""
        assert self.parent is not None
        own_file = Path(self.parent.connection_file)
        there = own_file.with_name(f"remote-{own_file.name}")
        info: dict[str, Any] = {name: next(self._ports) for name in port_names}
        info |= {"ip": self.address, "transport": "tcp", "kernel_name": self.parent.kernel_name}
        info |= {"signature_scheme": self.parent.session.signature_scheme}
        key = self.parent.session.key
        there.write_text(json.dumps({**info, "key": key.decode()}))
        command = [str(there) if each == str(own_file) else each for each in cmd]
        entering = ["nsenter", f"--net={self.namespace}", "--"]
        await super().launch_kernel([*entering, *command], **kwargs)
        self.connection_info = {**info, "key": key}
        return self.connection_info


def register(folder: Path) -> None:
    """Make the provisioner known to whoever has ``folder`` in its path, as an installed package."""
    about = folder / "namespace_provisioner-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: namespace-provisioner\nVersion: 1\n"
    )
    entry = f"{NAME} = {__name__}:{NamespaceProvisioner.__name__}"
    (about / "entry_points.txt").write_text(f"[{GROUP}]\n{entry}\n")
    found = metadata.distributions(path=[str(folder)])
    assert [each.name for one in found for each in one.entry_points] == [NAME]


def install(home: Path, namespace: Namespace) -> None:
    """Write kernel specs of kernels in a namespace, "remote-python3" and "remote-fake".

    ``home`` is a server's. The former reads a configuration that keeps output.
    """
    config = {"namespace": namespace.path, "address": namespace.address}
    stanza = {"kernel_provisioner": {"provisioner_name": NAME, "config": config}}
    ipykernel = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    fake = [sys.executable, str(Path(fake_kernel.__file__).resolve()), "{connection_file}"]
    specs: dict[str, dict[str, Any]] = {
        "remote-python3": {"argv": ipykernel, "language": "python"},
        "remote-fake": {"argv": fake, "language": "json", "interrupt_mode": "message"},
    }
    for name, spec in specs.items():
        folder = home / "data" / "kernels" / name
        folder.mkdir(parents=True)
        kernel = {**spec, "display_name": name, "metadata": stanza}
        (folder / "kernel.json").write_text(json.dumps(kernel))
    profile = home / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_kernel_config.py").write_text(KEEP_OUTPUT)
