"""The connection class: stock's, with the traffic to the browser moved in batches, natively."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self
from weakref import finalize, ref

from jupyter_client.session import Session
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from traitlets import (
    CaselessStrEnum,
    Float,
    HasTraits,
    Integer,
    List,
    Unicode,
    observe,
    validate,
)

from kernelwire._compat.jupyter import JSON_UNPACKERS
from kernelwire._config import at_least
from kernelwire._logging import hide_secrets
from kernelwire._overrides import overrides
from kernelwire._protocol import V1, is_for_clients
from kernelwire.connection.lifecycle import LifeCycle
from kernelwire.connection.rate_limit import RateWindow, window_attribute
from kernelwire.connection.requests import Incoming
from kernelwire.log.channel import LogStream
from kernelwire.log.kernel_log import empty_log
from kernelwire.log.writers import pending_bytes
from kernelwire.sockets.stream import KernelwireStream

if TYPE_CHECKING:
    from kernelwire._native import Window, _Settings

__all__ = ["KernelwireWebsocketConnection"]

MIN_PENDING_BYTES = 1 << 16
"""Bytes that may wait for any client: what is never dropped must fit."""

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


def _hooks(connection: KernelwireWebsocketConnection) -> list[str]:
    """Name the hooks that are overridden, for which each message must be handed over."""
    return overrides(connection, KernelwireWebsocketConnection, _HOOKS)


class KernelwireWebsocketConnection(LifeCycle, ZMQChannelsWebsocketConnection):
    """A websocket connection to a kernel whose messages are moved natively.

    Everything that can be configured, called or overridden is
    ``ZMQChannelsWebsocketConnection``'s. COMPATIBILITY.md lists what differs, and why.
    """

    iopub_overflow = CaselessStrEnum(
        ["pace", "drop"],
        default_value="pace",
        config=True,
        help="""What becomes of output over the rate limits.

        "pace": it waits, and arrives as fast as the limits allow, a window's worth at once. While
        it waits, text is joined, and an update of a display or of a widget gives way to a later one.
        Replies, requests for input, the status of other requests, and messages of widgets do not
        wait behind it. "drop" drops it, as upstream does.
        """,
    )

    iopub_pace_seconds = Float(
        30.0,
        config=True,
        help="""Seconds for which output waits at most where iopub_overflow is "pace".

        What has waited for longer is dropped, the oldest first, and the client is told how much. 0
        has the same effect as iopub_overflow="drop".
        """,
    )

    @validate("iopub_pace_seconds")
    def _valid_pace_seconds(self, proposal: Any) -> Any:
        """Refuse times that mean nothing."""
        return at_least(proposal, 0, zero="what is over the limits is dropped at once")

    max_pending_bytes = Integer(
        256 * 1024 * 1024,
        config=True,
        help="""Bytes that may wait for a client that does not read.

        Over it, output is dropped, the oldest first, and the client is told in its place how much,
        once a second at most while it goes on lagging. Replies, status messages and input requests
        are never dropped; where they alone are more than twice as many bytes, the client is closed.
        One message of any size is sent in any case. It is 64 KiB at least; 0 is no limit.
        """,
    )

    @validate("max_pending_bytes")
    def _valid_pending_bytes(self, proposal: Any) -> Any:
        """Refuse sizes that mean nothing."""
        return at_least(proposal, 0, zero="no limit")

    stand_in_for = List(
        Unicode(),
        config=True,
        help="""Classes of other extensions in whose place this one serves, by their whole names.

        An extension that is linked before kernelwire may have set a connection class of its own,
        which is kept unless it is named here. docs/works-with.md lists what this was tested with;
        `jupyter kernelwire status` names it where it applies.
        """,
    )

    @validate("iopub_msg_rate_limit", "iopub_data_rate_limit")
    def _valid_rate(self, proposal: Any) -> Any:
        """Refuse what is no number; upstream takes 0 and less for no limit."""
        return at_least(proposal, -math.inf)

    @validate("rate_limit_window")
    def _valid_window(self, proposal: Any) -> Any:
        """Refuse a window that never ends; with upstream, a negative one is no limit."""
        return at_least(proposal, -math.inf, finite=True)

    @validate("kernel_info_timeout")
    def _valid_timeout(self, proposal: Any) -> Any:
        """Refuse times that mean nothing."""
        return at_least(proposal, 0)

    hides_tracebacks: bool = False
    """Whether ``error`` messages are rewritten before they are sent."""

    _incoming: Incoming | None = None
    """The way to the kernel, once the client has sent something."""

    _unlimited: bool = False
    """Whether the rate limits are off, because what is sent was produced over time."""

    _iopub_window_msg_count = window_attribute(
        "window_messages", "Messages in the rate limit's window."
    )
    _iopub_window_byte_count = window_attribute("window_bytes", "Bytes in the rate limit's window.")
    _iopub_msgs_exceeded = window_attribute(
        "messages_exceeded", "Whether the message rate is exceeded."
    )
    _iopub_data_exceeded = window_attribute("bytes_exceeded", "Whether the data rate is exceeded.")

    @property
    def _iopub_window_byte_queue(self) -> Any:
        """The messages in the rate limit's window: (expiry time in seconds, bytes)."""
        return RateWindow(self._window)

    @_iopub_window_byte_queue.setter
    def _iopub_window_byte_queue(self, entries: Any) -> None:
        RateWindow(self._window).replace(entries)

    def __init__(self, **kwargs: Any) -> None:
        """Make a connection; see ``BaseKernelWebsocketConnection`` for the arguments."""
        # The limiter's state is asked for before there is a kernel.
        self._own_cursor = empty_log().open()
        super().__init__(**kwargs)
        hide_secrets()

    @observe(
        "limit_rate",
        "iopub_msg_rate_limit",
        "iopub_data_rate_limit",
        "rate_limit_window",
        "iopub_overflow",
        "iopub_pace_seconds",
        "max_pending_bytes",
    )
    def _limits_changed(self, _change: Any = None) -> None:
        """Have the cursor follow the limits; what is held by the old ones goes first."""
        if self._client is not None:
            self._client.apply_settings()

    def settings_of_cursor(self) -> _Settings:
        """Return what this client wants of the kernel's log; see ``_native.Cursor.apply``."""
        limits = (self.iopub_msg_rate_limit, self.iopub_data_rate_limit, self.rate_limit_window)
        return {
            "spliced": self.subprotocol != V1,
            "limits": limits if self.limit_rate else None,
            "overflow": self._overflow(),
            "patience": self.iopub_pace_seconds,
            "hide_tracebacks": self.hides_tracebacks,
            "one_by_one": self._obstacle() is not None,
            "bound": max(self.max_pending_bytes, MIN_PENDING_BYTES)
            if self.max_pending_bytes
            else 0,
        }

    def _overflow(self) -> str:
        """Return what becomes of output over the rate limits."""
        if self.iopub_overflow == "pace" and self.iopub_pace_seconds == 0:
            return "drop"
        return str(self.iopub_overflow)

    @property
    def _window(self) -> Window:
        """The state of the rate limiter."""
        return self._own_cursor.window() if self._client is None else self._client.window

    @property
    def stats(self) -> dict[str, int]:
        """How many of the kernel's messages on ``iopub`` took which way since the client came.

        ``received`` is the sum of ``forwarded``, ``merged`` (joined to the text of another message),
        ``superseded`` (given way to a later update), ``rate_limited``, ``congested`` (dropped because
        too much waited, or for too long), ``handed_over`` (to the one-message path), ``duplicate``
        (received before), ``refused`` (malformed), ``paced`` (right now, until the rate limits allow
        it) and ``queued`` (right now, for a client that lags). ``bytes`` is of what was forwarded,
        ``congested_bytes`` of what was dropped, ``pending_bytes`` what the websocket has queued;
        ``largest_batch`` is how many messages were received at once.
        """
        client = self._client
        stats = (self._own_cursor if client is None else client.cursor).stats()
        stats["refused"] = 0 if client is None else client.log.native.refused()
        stats["received"] = sum(stats.values()) - stats["bytes"] - stats["congested_bytes"]
        stats["largest_batch"] = 0 if client is None else client.log.native.largest_batch()
        return stats | {"pending_bytes": pending_bytes(self.websocket_handler)}

    @classmethod
    def open_connections(cls) -> list[Self]:
        """Return the connections of this class that are open."""
        return [each for each in cls._open_sockets if isinstance(each, cls)]

    def describe(self) -> dict[str, Any] | None:
        """Say how far the client is, for an operator; ``None`` where it has not got that far."""
        return None if self._client is None else self._client.describe()

    # -- going live ------------------------------------------------------------------------------

    def _go_live(self) -> None:
        """Write to the client what has waited, and what comes from now on."""
        self._follow_traceback_setting()
        obstacle = self._obstacle()
        if obstacle is not None:
            self.log.debug("Messages to %s go one by one: %s", self.session_key, obstacle)
        for channel, stream in self.channels.items():
            if not isinstance(stream, KernelwireStream | LogStream):
                name = type(stream).__qualname__
                self.log.debug("Messages on %s go one by one: it is a %s", channel, name)
        self._client_of_channels().attach(self)

    def _follow_traceback_setting(self) -> None:
        """Keep at hand what ``allow_tracebacks`` says: a trait takes long to read."""
        manager: Any = self.multi_kernel_manager
        self.hides_tracebacks = not manager.allow_tracebacks
        if not isinstance(manager, HasTraits):
            return
        connection = ref(self)

        def changed(change: Any) -> None:
            if (alive := connection()) is not None:
                alive.hides_tracebacks = not change["new"]
                alive._limits_changed()

        manager.observe(changed, "allow_tracebacks")
        finalize(self, manager.unobserve, changed, "allow_tracebacks").atexit = False

    def _obstacle(self) -> str | None:
        """Say why messages must go one by one; ``None`` where they may go in batches."""
        session = self.session
        if self.subprotocol != V1:
            if session.auth is not None and session.signature_scheme != "hmac-sha256":
                return f"messages are signed with {session.signature_scheme}"
            if session.debug or type(session).deserialize is not Session.deserialize:
                return "the session has messages pass through its own hands"
        if hooks := _hooks(self):
            return f"{', '.join(hooks)} overridden"
        if session.unpack not in JSON_UNPACKERS:
            return f"{session.unpacker} is not JSON"
        return None

    # -- messages --------------------------------------------------------------------------------

    def handle_outgoing_message(self, stream: Any, outgoing_msg: list[Any]) -> None:
        """Handle a message from the kernel, as upstream does, if it is for clients."""
        channel = stream if isinstance(stream, str) else getattr(stream, "channel", None)
        if channel != "iopub" or is_for_clients(outgoing_msg, self.session.unpack):
            super().handle_outgoing_message(stream, outgoing_msg)

    def note_interrupt(self) -> None:
        """Note that the kernel is interrupted: output of what it runs that waits is skipped."""
        if self._client is not None:
            self._client.log.interrupt()

    def handle_incoming_message(self, incoming_msg: Any) -> None:
        """Handle a message from the client; see ``Incoming``."""
        if self._incoming is None:
            reads_parts = "get_part" in _hooks(self)
            self._incoming = Incoming(
                self,
                failures=self._failures,
                on_answer=self._prompt.answered,
                reads_parts=reads_parts,
            )
        self._incoming.handle(incoming_msg)

    def _limit_rate(self, channel: Any, msg: Any, msg_list: Any) -> bool | None:
        """Limit the rate as stock does, but not of what is replayed.

        A window of no length, by which stock divides, is no limit.
        """
        if self.rate_limit_window == 0 or self._unlimited:
            return False
        if self.limit_rate and channel == "iopub" and self._overflow() == "pace":
            # What is to wait has waited. Stock sends nothing that its limiter cannot read.
            msg["header"] = self.get_part("header", msg["header"], msg_list)
            msg_type = msg["header"]["msg_type"]
            hash(msg_type)
            if msg_type == "status":
                msg["content"] = self.get_part("content", msg["content"], msg_list)
                msg["content"].get("execution_state")
            return False
        withheld = super()._limit_rate(channel, msg, msg_list)
        if withheld and self._client is not None:
            self._client.cursor.note_withheld()
        return withheld

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
