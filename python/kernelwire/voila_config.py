"""A configuration for Voilà as an application of its own: it serves kernels with kernelwire's classes.

The command ``voila`` loads no server extensions: it has to be told. Put two lines into the
``voila.py`` of a folder that ``jupyter --paths`` lists under ``config``: ``from
kernelwire.voila_config import c as kernelwire_config`` and ``c.merge(kernelwire_config)``. As an
extension of Jupyter Server, Voilà uses the server's classes and needs none of this.
"""

from traitlets.config import Config

from kernelwire._switch import is_switched_off

__all__ = ["c"]

c = Config()

# KERNELWIRE=off in the environment leaves Voilà as it is.
if not is_switched_off():
    # Both are needed: the one serves websockets, the other keeps what kernels send for them.
    c.Voila.kernel_websocket_connection_class = "kernelwire.KernelwireWebsocketConnection"
    c.VoilaConfiguration.multi_kernel_manager_class = "kernelwire.KernelwireMappingKernelManager"
