"""A configuration file for a Kernel Gateway: it serves its kernels with kernelwire's classes.

Start the gateway with ``--config`` and this file's path, which ``jupyter kernelwire status --app
kernel-gateway`` prints. Jupyter reads no ``jupyter_kernel_gateway_config.py`` then. If you have one,
put two lines into it instead: ``from kernelwire.kernel_gateway_config import c as
kernelwire_config`` and ``c.merge(kernelwire_config)``.
"""

from traitlets.config import Config

from kernelwire._switch import is_switched_off

# traitlets puts it there; without it, this can be imported as any other module.
c = globals().get("c", Config())

# KERNELWIRE=off in the environment leaves the gateway as it is.
if not is_switched_off():
    # Both are needed: the one serves websockets, the other keeps what kernels send for them.
    c.KernelGatewayApp.kernel_websocket_connection_class = (
        "kernelwire.KernelwireWebsocketConnection"
    )
    c.KernelGatewayApp.kernel_manager_class = (
        "kernelwire.kernel_gateway.KernelwireSeedingMappingKernelManager"
    )

# A program that runs notebooks through the gateway, such as nbclient, gives up on output that comes
# late. It does not watch output go by and needs no rate limits: turn limit_rate of
# ZMQChannelsWebsocketConnection off. Where limits have to stay, set iopub_overflow of
# KernelwireWebsocketConnection to "drop": what exceeds them is dropped then, as without kernelwire.
