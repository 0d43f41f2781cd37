"""The connection of a browser to a kernel that runs behind a gateway: messages are relayed, not read."""

from kernelwire.gateway.connection import KernelwireGatewayConnection

__all__ = ["KernelwireGatewayConnection"]
