"""The channels of a connection, and the client that they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import zmq
from zmq.eventloop.zmqstream import ZMQStream

from kernelwire._protocol import STDIN
from kernelwire.connection.handshake import HandshakeMixin
from kernelwire.connection.prompts import SessionPrompt
from kernelwire.log.backlog import Backlog
from kernelwire.log.channel import LogStream, log_for, log_of
from kernelwire.log.client import Client
from kernelwire.log.kernel_log import KernelLog, ports_of
from kernelwire.sockets.options import bounded_sending, sending_to_peers
from kernelwire.sockets.stream import KernelwireStream

__all__ = ["ChannelsMixin"]


class ChannelsMixin(HandshakeMixin):
    """Part of ``KernelwireWebsocketConnection``: its streams, and whose they were before."""

    _client: Client | None = None
    """The client whose channels these are, and its place in the kernel's log."""
    _restored = False
    """Whether the streams are an earlier connection's."""
    _ports: tuple[Any, ...] = ()
    _prompt: SessionPrompt

    if TYPE_CHECKING:
        channels: dict[str, Any]

        def _obstacle(self) -> str | None: ...

    def __init__(self, **kwargs: Any) -> None:
        """Make a connection; see ``HandshakeMixin``."""
        super().__init__(**kwargs)
        self._prompt = SessionPrompt(self)

    def create_stream(self) -> None:
        """Create the channels' streams; that of ``iopub`` has no socket where the manager has a log."""
        log = self._log_of_kernel()
        try:
            with bounded_sending(getattr(self.kernel_manager, "context", None)):
                if log is None:
                    super().create_stream()
                else:
                    self._create_streams_on(log)
            for channel, stream in self.channels.items():
                # Other kernel managers may give streams of their own kind: those stay as they are.
                if type(stream) is ZMQStream:
                    self.channels[channel] = KernelwireStream.adopt(stream)
        except BaseException:
            self._close_streams()
            raise
        iopub = self.channels["iopub"]
        if isinstance(iopub, KernelwireStream) and self._obstacle() is None:
            # For good: a socket whose RCVHWM is set back from 0 may never receive again.
            iopub.socket.setsockopt(zmq.RCVHWM, 0)

    def _log_of_kernel(self) -> KernelLog | None:
        """Return the log that the manager has of the kernel; ``None`` where it has none."""
        logs = getattr(self.multi_kernel_manager, "kernel_log", None)
        if logs is None:
            return None
        log: KernelLog | None = logs(self.kernel_id)
        return log

    def _create_streams_on(self, log: KernelLog) -> None:
        """Create the streams as upstream does, but for the subscription, and to be asked in time."""
        kernel: Any = self.kernel_manager
        self.channels["iopub"] = LogStream(log)
        for channel in ("shell", "control"):
            self._create_stream_of(kernel, channel)
        # What a kernel asks a session whose channel it does not know yet is lost, see `Nudge`.
        with sending_to_peers(getattr(kernel, "context", None)):
            self._create_stream_of(kernel, STDIN)

    def _create_stream_of(self, kernel: Any, channel: str) -> None:
        stream = getattr(kernel, f"connect_{channel}")(identity=self.session.bsession)
        stream.channel = channel
        self.channels[channel] = stream

    def _open_channels(self, client: Client | None) -> None:
        """Take the session's channels over, or make new ones."""
        info: Any = self.multi_kernel_manager.get_buffer(self.kernel_id, self.session_key)
        if client is None and info and info["session_key"] == self.session_key:
            self.log.info("Restoring connection for %s", self.session_key)
            client = self._client_of_buffer(info)
        if client is not None:
            # From here on a failure puts it all back.
            self._client, self.channels, self._restored = client, client.streams, True
        streams = self.channels
        is_open = all(not stream.closed() for stream in streams.values())
        if not streams or not is_open or (client is not None and self._are_elsewhere(streams)):
            self._close_streams()
            self.create_stream()
        self._note_ports()
        self._prompt.ask_again(self._client_of_channels())

    def _client_of_buffer(self, info: dict[str, Any]) -> Client:
        """Return the client whose messages were kept: the kernels' manager may be another's."""
        buffer = info["buffer"]
        if isinstance(buffer, Backlog):
            return buffer.client
        client = self._new_client()
        client.extend(buffer)
        client.read_from(info["channels"])
        return client

    def _new_client(self) -> Client:
        manager = self.multi_kernel_manager
        log = log_for(self.channels.get("iopub"), self.session, self._failures)
        noter = self._prompt.noter() if self._can_return() else None
        return Client(
            log, lambda: getattr(manager, "max_offline_buffer_bytes", 0), self._failures, noter
        )

    def _client_of_channels(self) -> Client:
        """Return the client whose channels ours are; whatever they receive, it gets."""
        client = self._client
        if client is None:
            client = self._client = self._new_client()
        log = log_of(self.channels.get("iopub"))
        if log is not None and log is not client.log:
            client = self._client = self._moved(client)
        if client.streams is not self.channels or not client.is_receiving():
            client.read_from(self.channels)
        return client

    def _moved(self, client: Client) -> Client:
        """Have what waits for a client wait in the log that its channels are of now."""
        moved = self._new_client()
        moved.extend(Backlog(client))
        client.close()
        return moved

    def _close_streams(self) -> None:
        for stream in self._open_streams().values():
            stream.on_recv(None)
            stream.close()
        self.channels = {}

    def _open_streams(self) -> dict[str, Any]:
        return {
            name: stream
            for name, stream in self.channels.items()
            if stream is not None and not stream.closed()
        }

    # -- where the kernel is ---------------------------------------------------------------------

    def _is_managed(self) -> bool:
        return self.kernel_id in self.multi_kernel_manager

    def _kernel_ports(self) -> tuple[Any, ...]:
        return ports_of(self.kernel_manager)

    def _has_moved(self) -> bool:
        """Whether the kernel has left the ports that the channels are connected to."""
        return self._is_managed() and self._ports != self._kernel_ports()

    def _note_ports(self) -> None:
        """Note where the channels are connected to, also for who inherits them."""
        self._ports = self._kernel_ports()
        for stream in self.channels.values():
            stream.kernel_ports = self._ports

    def _are_elsewhere(self, streams: dict[str, Any]) -> bool:
        """Whether buffered streams are connected to ports that the kernel has left.

        Upstream's manager knows where the kernel was when it was asked last, which is not where
        streams of a connection were that had replaced another one.
        """
        changed = self.multi_kernel_manager.ports_changed(self.kernel_id)
        ports = {getattr(stream, "kernel_ports", None) for stream in streams.values()}
        return changed if None in ports else ports != {self._kernel_ports()}
