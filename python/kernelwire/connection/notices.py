"""What a client is told by the server, on stderr, in the kernel's name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jupyter_client.jsonutil import json_default
from tornado.websocket import WebSocketClosedError

from kernelwire._protocol import V1
from kernelwire.connection.channels import ChannelsMixin
from kernelwire.events import OUTPUT_DROPPED, emit
from kernelwire.log.notices import make_notice
from kernelwire.wire import serialize_msg_to_ws_v1

if TYPE_CHECKING:
    from kernelwire.log.backlog import Dropped
    from kernelwire.log.client import Client

__all__ = ["NoticesMixin"]


class NoticesMixin(ChannelsMixin):
    """Part of ``KernelwireWebsocketConnection``: telling the client what it does not get."""

    if TYPE_CHECKING:
        max_pending_bytes: Any
        iopub_pace_seconds: Any

    def tell_skipped(self, dropped: Dropped, parent: bytes, why: str) -> None:
        """Tell the client what it does not get, and why; see ``_native.Cursor.held`` for the reasons."""
        self.emit_dropped(dropped, why)
        if why == "away":
            manager = self.multi_kernel_manager
            why = "while no client was connected"
            self.tell_dropped(dropped, why, manager, "max_offline_buffer_bytes", parent)
            return
        if why == "interrupted":
            ended = "because the kernel was interrupted, or has ended, while they waited"
            self._tell(f"{_amount(dropped)} were skipped {ended}.", dropped, parent)
            return
        if why == "late":
            late = "because they came faster than the rate limits allow, for too long"
            self._tell(
                f"{_amount(dropped)} were dropped {late}."
                f"\nTo change this, set the config variables\n{self._current('iopub_pace_seconds')}"
                f" (seconds)\n{self._current('iopub_msg_rate_limit')} (messages per second)\n"
                f"{self._current('iopub_data_rate_limit')} (bytes per second)\n",
                dropped,
                parent,
            )
            return
        self.log.warning(
            "Client of kernel %s is not reading; more than %d bytes were queued, dropped output",
            self.kernel_id,
            self.max_pending_bytes,
        )
        why = "because the client did not read"
        self.tell_dropped(dropped, why, self, "max_pending_bytes", parent)

    def emit_dropped(self, dropped: Dropped, cause: str) -> None:
        """Tell whoever listens to the server's events what the client does not get. Never raises."""
        data = {"kernel_id": self.kernel_id, "cause": cause}
        data |= {"messages": dropped.messages, "bytes": dropped.size}
        try:
            emit(getattr(self.websocket_handler, "settings", {}), OUTPUT_DROPPED, data)
        except Exception:
            self._failures.failure("event", "The event of %s could not be emitted", dropped)

    def tell_dropped(
        self, dropped: Dropped, why: str, owner: Any, trait: str, parent: bytes
    ) -> None:
        """Tell the client, and the log, what it has missed, and the setting that decides on it.

        ``parent`` is the header, as JSON, of the request among whose output the notice is shown.
        Never raises: other messages depend on what follows.
        """
        setting = f"{type(owner).__name__}.{trait}"
        self._tell(
            f"{_amount(dropped)} were dropped {why}."
            f"\nTo change this limit, set the config variable\n`--{setting}`.\n\n"
            f"Current value:\n{setting}={getattr(owner, trait, None)} (bytes)\n",
            dropped,
            parent,
        )

    def _current(self, trait: str) -> str:
        return f"{type(self).__name__}.{trait}={getattr(self, trait)}"

    def _tell(self, text: str, dropped: Dropped, parent: bytes) -> None:
        """Write a notice about what was dropped."""
        try:
            self.write_stderr(text, self._readable_header(parent))
        except WebSocketClosedError:
            self.log.debug("The client is gone that should be told of %s", dropped)
        except Exception:
            self._failures.failure("notice", "The client could not be told of %s", dropped)

    def write_stderr(self, error_message: str, parent_header: Any) -> None:
        """Write a message to stderr, in the kernel's name, under a parent header that can be written."""
        self.log.warning(error_message)
        header = self._writable_header(parent_header)
        message = self._made(self._client, error_message + "\n", header)
        if self.subprotocol == V1:
            self.write_message(
                serialize_msg_to_ws_v1(message, "iopub", self.session.pack), binary=True
            )
        else:
            self.write_message(json.dumps(message | {"channel": "iopub"}, default=json_default))

    def _writable_header(self, header: Any) -> Any:
        """Return a header without what cannot be written anew, such as lone surrogates."""
        if not isinstance(header, dict) or not header.keys() & {"msg_id", "header"}:
            return {}
        if self._is_writable(header):
            return header
        rest = {name: value for name, value in header.items() if self._is_writable({name: value})}
        return rest if "msg_id" in rest else {}

    def _is_writable(self, header: dict[str, Any]) -> bool:
        try:
            self.session.pack(header)
        except Exception:
            return False
        return True

    def _notice(self, client: Client, text: str, parent: bytes) -> tuple[str, list[bytes]]:
        """Make a message on stderr to be sent with the backlog of ``client``, and log it."""
        self.log.warning("Session %s: %s", self.session_key, text.splitlines()[0])
        header = self._writable_header(self._readable_header(parent))
        message = self._made(client, text, header)
        return "iopub", self.session.serialize(message)

    def _made(self, client: Client | None, text: str, parent: dict[str, Any]) -> dict[str, Any]:
        """Make a message on stderr to stand where the client's cursor is."""
        sender = "" if client is None else client.cursor.sender()
        content = {"text": text, "name": "stderr"}
        return make_notice(self.session, "stream", content, parent, sender=sender)

    def _readable_header(self, header: bytes) -> dict[str, Any]:
        """Parse a header; an empty one where it is none."""
        try:
            parsed = self.session.unpack(header)
        except Exception:
            return {}
        return parsed if isinstance(parsed, dict) and "msg_id" in parsed else {}


def _amount(dropped: Dropped) -> str:
    return f"{dropped.messages} messages ({dropped.size} bytes) of output"
