"""The way of a message from the client to the kernel."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from weakref import proxy

from kernelwire import _native, wire
from kernelwire._compat.jupyter import JSON_PACKERS
from kernelwire._logging import shown
from kernelwire._protocol import DELIMITER, MIN_PARTS, STDIN, V1
from kernelwire.sockets.sending import KernelDoesNotReadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelwire._logging import Throttle
    from kernelwire.connection.websocket import KernelwireWebsocketConnection

__all__ = ["Incoming"]

CONTROL = "control"
"""The channel of requests that do not wait for what a shell runs."""

_Signed = tuple[str, "str | None", "list[Any]"]
"""Channel, message type where the header tells it plainly, and the frames to send."""


class Incoming:
    """Checks a client's messages, signs them, and sends them to the kernel.

    What is plain is taken apart and signed natively. One that breaks its format, or that the
    reference fails on, is logged and ignored: the connection lives on. Neither its content nor the
    request's address, which may hold a token, is logged.

    Source: ``ZMQChannelsWebsocketConnection.handle_incoming_message``.
    """

    def __init__(
        self,
        connection: KernelwireWebsocketConnection,
        *,
        failures: Throttle,
        on_answer: Callable[[], None],
        reads_parts: bool,
    ) -> None:
        session = connection.session
        # The connection has this, and is to be freed as soon as nobody else refers to it.
        self._connection: KernelwireWebsocketConnection = proxy(connection)
        self._manager = connection.multi_kernel_manager
        self._session: Any = session
        self._failures = failures
        self._on_answer = on_answer
        """Called when an answer to a kernel's question was sent."""
        self._reads_parts = reads_parts
        """Whether the connection wants to read headers itself."""
        self._v1 = connection.subprotocol == V1
        signed = session.auth is not None
        native = not signed or session.signature_scheme == "hmac-sha256"
        packs_json = session.pack in JSON_PACKERS and not session.debug
        self._signer: _native.Signer | None = None
        if native and (self._v1 or packs_json):
            self._signer = _native.Signer(session.key if signed else b"")

    def handle(self, message: Any) -> None:
        """Send ``message`` to the kernel, or log why not."""
        try:
            self._handle(message)
        except KernelDoesNotReadError as error:
            self._failures.warning("unread", "Ignored a request: %s", error)
        except Exception:
            kind = type(message).__name__
            self._failures.failure(
                "incoming", "Ignored a malformed message of %d %s", len(message), kind
            )

    def _handle(self, message: Any) -> None:
        channels = self._connection.channels
        if not channels:
            self._connection.log.debug("Received message on closed websocket")
            return
        signed = self._signed_v1(message) if self._v1 else self._signed(message)
        if signed is None:
            self._send_parsed(message)
            return
        channel, msg_type, frames = signed
        if msg_type is None or self._reads_parts:
            plain = msg_type is not None
            frames = self._materialized(frames, message)
            header = self._connection.get_part("header", None, frames[2:])
            msg_type = self._read_type(header)
            if not plain and self._manager.allowed_message_types:
                frames = self._written_anew(frames, header)
        stream = self._stream(channel, msg_type)
        if stream is not None:
            self._send(stream, frames, message)
            self._note_sent(channel)
            if channel == CONTROL:
                self._tell_watcher(frames[2], frames[5], self._unpacked)

    # -- taking apart ----------------------------------------------------------------------------

    def _signed_v1(self, message: Any) -> _Signed:
        if not isinstance(message, bytes):
            raise TypeError("a text frame, where this protocol has binary ones only")
        if self._signer is not None:
            return self._signer.v1(message)
        channel, parts = _native.decode_v1(message)
        _native.count_request(channel, len(message))
        if len(parts) < MIN_PARTS:
            raise ValueError(f"{len(parts)} parts, at least {MIN_PARTS} are required")
        return channel, None, [DELIMITER, self._session.sign(parts[:MIN_PARTS]), *parts]

    def _signed(self, message: Any) -> _Signed | None:
        """Take a message of the default protocol apart; ``None`` where it must be parsed."""
        # Others are translated by the session.
        if self._signer is None or self._session.adapt_version not in (0, 5):
            return None
        if isinstance(message, bytes):
            return self._signer.binary(message)
        return self._signer.text(message)

    def _written_anew(self, frames: list[Any], header: Any) -> list[Any]:
        """Put what was read of the header in its place.

        Of equal keys, and of what is not plain, the kernel may read something else than the type
        that was checked.
        """
        parts = [self._session.pack(header), *frames[3:]]
        return [DELIMITER, self._session.sign(parts[:MIN_PARTS]), *parts]

    @staticmethod
    def _materialized(frames: list[Any], message: str | bytes) -> list[bytes]:
        """Return the frames as bytes, those too that stand for a span of the message."""
        if all(type(frame) is bytes for frame in frames):
            return frames
        whole = message.encode() if isinstance(message, str) else message
        return [whole[slice(*frame)] if type(frame) is tuple else frame for frame in frames]

    @staticmethod
    def _read_type(header: Any) -> Any:
        if not isinstance(header, dict) or "msg_type" not in header:
            raise ValueError("the header is not an object with a msg_type")
        return header["msg_type"]

    def _send_parsed(self, message: Any) -> None:
        """Send a message of the default protocol as the reference does."""
        if isinstance(message, bytes):
            parsed: Any = wire.deserialize_binary_message(message)
        else:
            parsed = json.loads(message)
        channel = parsed.pop("channel", None)
        if channel is None:
            self._failures.warning(
                "no channel", "No channel specified, assuming shell: %s", shown(parsed)
            )
            channel = "shell"
        _native.count_request(str(channel), len(message))
        stream = self._stream(channel, self._read_type(parsed["header"]))
        if stream is not None:
            self._session.send(stream, parsed)
            self._note_sent(channel)
            if channel == CONTROL:
                self._tell_watcher(parsed["header"], parsed.get("content"), dict)

    # -- sending ---------------------------------------------------------------------------------

    def _stream(self, channel: Any, msg_type: Any) -> Any:
        """Return the stream of a channel; ``None`` where the message is not to be sent."""
        if channel == "iopub":
            raise ValueError("iopub is for messages from the kernel")
        stream = self._connection.channels.get(channel)
        if stream is None:
            self._failures.warning("channel", "No such channel: '%s'", shown(channel))
            return None
        allowed = self._manager.allowed_message_types
        if allowed and msg_type not in allowed:
            self._failures.warning(
                "type",
                'Received message of type "%s", which is not allowed. Ignoring.',
                shown(msg_type),
            )
            return None
        return stream

    def _note_sent(self, channel: Any) -> None:
        if channel == STDIN:
            self._on_answer()

    def _unpacked(self, part: Any) -> Any:
        return self._session.unpack(bytes(part))

    def _tell_watcher(self, header: Any, content: Any, read: Callable[[Any], Any]) -> None:
        """Tell the watcher of a request on the control channel: statuses do not say where it runs.

        Nor do they say which subshell a request deletes. Nobody waits for output that is interrupted.
        ``read`` makes a dictionary of a part.
        """
        kernel_id = self._connection.kernel_id
        try:
            request = read(header)
            if request["msg_type"] == "interrupt_request":
                self._connection.note_interrupt()
            if not hasattr(self._manager, "note_control"):
                return
            self._manager.note_control(kernel_id, request["msg_id"])
            if request["msg_type"] == "delete_subshell_request":
                deleted = read(content)["subshell_id"]
                self._manager.note_deletion(kernel_id, request["msg_id"], deleted)
        except (AttributeError, KeyError, TypeError, ValueError):
            return  # the kernel says what is wrong with it

    @staticmethod
    def _send(stream: Any, frames: list[Any], message: str | bytes) -> None:
        spans = [index for index, frame in enumerate(frames) if type(frame) is tuple]
        if spans:
            # Copied neither here nor by libzmq, which keeps the message as long as it needs it.
            whole = memoryview(message.encode() if isinstance(message, str) else message)
            for index in spans:
                start, end = frames[index]
                frames[index] = whole[start:end]
        stream.send_multipart(frames, copy=not spans)
