"""The connection class: stock's, with the traffic to the browser moved in batches, natively."""

from __future__ import annotations

from functools import lru_cache
from inspect import getattr_static
from typing import Any

import zmq
from jupyter_client.session import json_unpacker, orjson_unpacker
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from tornado.iostream import StreamClosedError
from traitlets import observe
from zmq.eventloop.zmqstream import ZMQStream

from kernelwire import _native
from kernelwire._logs import Throttle
from kernelwire.limits import RateWindow, pump_attribute
from kernelwire.pacing import IOPUB
from kernelwire.reader import MAX_BYTES, MAX_MESSAGES, MAX_SECONDS, ChannelReader
from kernelwire.stream import KernelwireStream

__all__ = ["KernelwireWebsocketConnection"]

V1 = "v1.kernel.websocket.jupyter.org"

_HOOKS = (
    "_limit_rate",
    "_on_error",
    "_on_zmq_reply",
    "_reserialize_reply",
    "get_part",
    "handle_outgoing_message",
    "subprotocol",
    "write_message",
    "write_stderr",
)
"""What a subclass may override to see or change single messages on their way to the browser."""


@lru_cache(maxsize=64)
def _overridden(cls: type) -> tuple[str, ...]:
    """Name the hooks that ``cls`` overrides, for which it must get every message."""
    ours = KernelwireWebsocketConnection
    return tuple(
        name for name in _HOOKS if getattr_static(cls, name) is not getattr_static(ours, name)
    )


class KernelwireWebsocketConnection(ZMQChannelsWebsocketConnection):
    """A websocket connection to a kernel whose messages are moved natively.

    Everything that can be configured, called or overridden is
    ``ZMQChannelsWebsocketConnection``'s. COMPATIBILITY.md lists what differs, and why.
    """

    _iopub_window_msg_count = pump_attribute(
        "window_messages", "Messages in the rate limit's window."
    )
    _iopub_window_byte_count = pump_attribute("window_bytes", "Bytes in the rate limit's window.")
    _iopub_msgs_exceeded = pump_attribute(
        "messages_exceeded", "Whether the message rate is exceeded."
    )
    _iopub_data_exceeded = pump_attribute("bytes_exceeded", "Whether the data rate is exceeded.")

    @property
    def _iopub_window_byte_queue(self) -> Any:
        """The messages in the rate limit's window: (expiry time in seconds, bytes)."""
        return RateWindow(self._pump)

    @_iopub_window_byte_queue.setter
    def _iopub_window_byte_queue(self, entries: Any) -> None:
        RateWindow(self._pump).replace(entries)

    def __init__(self, **kwargs: Any) -> None:
        """Make a connection; see ``BaseKernelWebsocketConnection`` for the arguments."""
        self._pump = _native.Pump(MAX_MESSAGES, MAX_BYTES, MAX_SECONDS)
        super().__init__(**kwargs)
        self._failures = Throttle(self.log)
        self._limits_changed()

    @observe("limit_rate", "iopub_msg_rate_limit", "iopub_data_rate_limit", "rate_limit_window")
    def _limits_changed(self, _change: Any = None) -> None:
        """Tell the pump the limits."""
        self._pump.set_limits(
            self.limit_rate,
            self.iopub_msg_rate_limit,
            self.iopub_data_rate_limit,
            self.rate_limit_window,
        )

    @property
    def stats(self) -> dict[str, int]:
        """How many messages and bytes took which way since the connection was made."""
        return self._pump.stats()

    # -- life cycle ------------------------------------------------------------------------------

    def create_stream(self) -> None:
        """Create the channels' streams, and keep libzmq from dropping what waits on iopub."""
        super().create_stream()
        for channel, stream in self.channels.items():
            # Other kernel managers may give streams of their own kind: those stay as they are.
            if type(stream) is ZMQStream:
                self.channels[channel] = KernelwireStream.adopt(stream)
        iopub = self.channels["iopub"]
        if isinstance(iopub, KernelwireStream):
            iopub.socket.setsockopt(zmq.RCVHWM, 0)

    def connect(self) -> Any:
        """Connect as stock does; once it is live, the channels are read in batches."""
        connected = super().connect()
        self._set_nodelay()
        if connected is not None:
            connected.add_done_callback(self._go_live)
        return connected

    def _set_nodelay(self) -> None:
        """Have small messages sent at once: Nagle's algorithm costs 40 ms with delayed ACKs."""
        handler = self.websocket_handler
        if getattr(handler, "ws_connection", None) is None:
            return
        try:
            handler.set_nodelay(True)
        except (OSError, StreamClosedError) as error:
            self.log.debug("TCP_NODELAY could not be set: %s", error)

    def _go_live(self, _connected: Any = None) -> None:
        """Let the pump have the channels, unless somebody wants to see each message."""
        obstacle = self._obstacle()
        if obstacle is not None:
            self.log.debug("Messages to %s go one by one: %s", self.session_key, obstacle)
            return
        one_by_one: Any = self.handle_outgoing_message
        for channel, stream in self.channels.items():
            if isinstance(stream, KernelwireStream) and not stream.closed():
                pacing = IOPUB if channel == "iopub" else None
                stream.on_ready(ChannelReader(self, channel), one_by_one, pacing)

    def _obstacle(self) -> str | None:
        """Say why messages must go one by one; ``None`` where the pump may have them."""
        if self.subprotocol != V1:
            return "the client speaks the default protocol"
        hooks = [*_overridden(type(self)), *(name for name in _HOOKS if name in vars(self))]
        if hooks:
            return f"{', '.join(hooks)} overridden"
        if self.session.unpack not in (json_unpacker, orjson_unpacker):
            return f"{self.session.unpacker} is not JSON"
        return None

    # -- messages --------------------------------------------------------------------------------

    def handle_incoming_message(self, incoming_msg: Any) -> None:
        """Handle a message from the client; one that breaks its format is logged and ignored."""
        if self.channels and isinstance(incoming_msg, bytes):
            try:
                decode = _native.decode_v1 if self.subprotocol == V1 else _native.decode_legacy
                decode(incoming_msg)
            except ValueError as error:
                self._failures.warning(
                    "incoming",
                    "Ignored a malformed message of %d bytes: %s",
                    len(incoming_msg),
                    error,
                )
                return
        iopub = self.channels.get("iopub")
        if isinstance(iopub, KernelwireStream):
            iopub.hurry()
        super().handle_incoming_message(incoming_msg)

    def _limit_rate(self, channel: Any, msg: Any, msg_list: Any) -> bool | None:
        """Limit the rate as stock does; a window of no length, by which stock divides, is no limit."""
        if self.rate_limit_window == 0:
            return False
        return super()._limit_rate(channel, msg, msg_list)

    def _on_error(self, channel: Any, msg: Any, msg_list: Any) -> None:
        """Hide a traceback where ``allow_tracebacks`` is off.

        As upstream, but for the replacement text: upstream looks for it on the kernel's manager,
        which has none; it is a trait of the manager of all kernels.
        """
        if self.multi_kernel_manager.allow_tracebacks or channel != "iopub":
            return
        msg["header"] = self.get_part("header", msg["header"], msg_list)
        if msg["header"]["msg_type"] != "error":
            return
        msg["content"] = self.get_part("content", msg["content"], msg_list)
        msg["content"]["ename"] = "ExecutionError"
        msg["content"]["evalue"] = "Execution error"
        msg["content"]["traceback"] = [self.multi_kernel_manager.traceback_replacement_message]
        if self.subprotocol == V1:
            msg_list[3] = self.session.pack(msg["content"])
