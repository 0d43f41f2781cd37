"""The connection of a browser to a kernel: the class, and the parts that it is made of."""

from kernelwire.connection.websocket import KernelwireWebsocketConnection

__all__ = ["KernelwireWebsocketConnection"]
