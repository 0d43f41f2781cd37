"""Connections of subclasses, for servers: what extensions override, messages go through."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelwire import KernelwireWebsocketConnection
from support.waiting import wait_until_async

if TYPE_CHECKING:
    from support.server import Implementation, JsonConfig

GATE_VARIABLE = "TESTS_GATE"


class OneByOneConnection(KernelwireWebsocketConnection):
    """Hands every message to a method of the subclass."""

    def handle_outgoing_message(self, stream: Any, outgoing_msg: Any) -> Any:
        """Handle a message as the base class does."""
        return super().handle_outgoing_message(stream, outgoing_msg)


class CoroutineConnection(KernelwireWebsocketConnection):
    """Handles messages in a coroutine."""

    async def handle_outgoing_message(self, stream: Any, outgoing_msg: Any) -> None:
        """Handle a message as the base class does, a turn of the loop later."""
        await asyncio.sleep(0)
        super().handle_outgoing_message(stream, outgoing_msg)


class GatedConnection(KernelwireWebsocketConnection):
    """Handles messages while the file that an environment variable names is there."""

    async def handle_outgoing_message(self, stream: Any, outgoing_msg: Any) -> None:
        """Wait for the file, then handle a message as the base class does."""
        gate = Path(os.environ[GATE_VARIABLE])
        await wait_until_async(gate.exists, what="the gate", timeout=60)
        super().handle_outgoing_message(stream, outgoing_msg)


class RegisteringConnection(KernelwireWebsocketConnection):
    """Takes the client's place on ``iopub`` when the client asks for comms."""

    def handle_incoming_message(self, incoming_msg: Any) -> None:
        """Handle a message as the base class does."""
        asked = b"comm_info_request" if isinstance(incoming_msg, bytes) else "comm_info_request"
        if asked in incoming_msg:
            self.channels["iopub"].on_recv_stream(self.on_output)
        super().handle_incoming_message(incoming_msg)

    def on_output(self, stream: Any, message: list[bytes]) -> None:
        """Send a message to the client."""
        self.handle_outgoing_message(stream, message)


def hooked(
    implementation: Implementation, connection: type[Any], config: JsonConfig, **variables: str
) -> tuple[Implementation, JsonConfig]:
    """What a server needs to run a connection class of this module."""
    path = {"PYTHONPATH": str(Path(__file__).parents[1])}
    environment = {**implementation.environment, **path, **variables}
    found = replace(implementation, environment=environment)
    name = f"{connection.__module__}.{connection.__name__}"
    classes = {"kernel_websocket_connection_class": name}
    return found, {**config, "ServerApp": {**config.get("ServerApp", {}), **classes}}
