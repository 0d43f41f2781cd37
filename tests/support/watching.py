"""One watched kernel without a process: what it says is put in, what the server thinks comes out."""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import zmq
from jupyter_client.session import Session
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from traitlets.config import Config
from zmq.eventloop.zmqstream import ZMQStream

from kernelwire import KernelwireKernelsMixin
from kernelwire.kernels.activity import Activity
from kernelwire.sockets.drain import Drain, drain
from support.workbench import Lines

if TYPE_CHECKING:
    from collections.abc import Iterator

DELIMITER = b"<IDS|MSG>"
KERNEL_ID = "kernel"
STOCK, NATIVE, PORTABLE, ONE_BY_ONE = "stock", "native", "portable", "one by one"
WAYS = (STOCK, NATIVE, PORTABLE, ONE_BY_ONE)

_addresses = count()


class OtherStream(ZMQStream):
    """A stream of a kernel manager that has streams of its own kind."""


class Kernel:
    """What a manager of kernels asks of one of them."""

    def __init__(self, session: Session, stream: Any, state: str) -> None:
        self.session = session
        self.execution_state = state
        self.reason = "restarted"
        self.last_activity: datetime | None = None
        self._stream = stream
        self._activity_stream: Any = None

    def connect_iopub(self) -> Any:
        """Hand out the one stream there is."""
        return self._stream


class Watching:
    """A manager that watches a kernel; must be made while an event loop runs."""

    def __init__(
        self,
        way: str,
        *,
        key: bytes = b"key",
        scheme: str = "hmac-sha256",
        state: str = "starting",
        manager_base: type[AsyncMappingKernelManager] = AsyncMappingKernelManager,
        **traits: Any,
    ) -> None:
        self.way = way
        self.log = Lines()
        logger = logging.Logger("watching")  # noqa: LOG001 (one of its own for each)
        logger.setLevel(logging.INFO)
        logger.addHandler(self.log)
        self.context = zmq.Context()
        self.kernel_end = self.context.socket(zmq.PAIR)
        near = self.context.socket(zmq.PAIR)
        for each in (self.kernel_end, near):
            each.set_hwm(0)
        address = f"inproc://iopub-{next(_addresses)}"
        self.kernel_end.bind(address)
        near.connect(address)
        stream = (OtherStream if way == ONE_BY_ONE else ZMQStream)(near)
        config = Config({"Session": {"signature_scheme": scheme, "key": key}})
        self.session = Session(config=config)
        self.kernel = Kernel(self.session, stream, state)
        mixed: Any = type("Mixed", (KernelwireKernelsMixin, manager_base), {})
        if way != STOCK:
            traits = {"execution_state_policy": "stock", **traits}
        self.manager: Any = (manager_base if way == STOCK else mixed)(log=logger, **traits)
        self.manager._kernels = {KERNEL_ID: self.kernel}
        made: list[Activity] = []

        def make_activity(*args: Any) -> Activity:
            made.append(Activity(*args))
            return made[-1]

        with receiving(way), patch("kernelwire.kernels.manager.Activity", make_activity):
            self.manager.start_watching_activity(KERNEL_ID)
        self._made = made

    @property
    def reader(self) -> Activity:
        """What follows the messages: not for the stock way."""
        (reader,) = self._made
        return reader

    def signed(self, parts: list[bytes]) -> list[bytes]:
        """Put a signature before parts, as the kernel does."""
        return [b"topic", DELIMITER, self.session.sign(parts[:4]), *parts]

    def deliver(self, messages: list[list[bytes]]) -> None:
        """Let messages arrive, all at the same time, and be followed."""
        for frames in messages:
            self.kernel_end.send_multipart(frames)
        self.kernel._activity_stream.flush()
        if self.way != STOCK:
            self.manager.settle_activity(KERNEL_ID)
            while self.reader.is_behind():
                self.manager.settle_activity(KERNEL_ID)

    @property
    def seen(self) -> dict[str, Any]:
        """What the server knows of the kernel."""
        return {
            "execution_state": self.kernel.execution_state,
            "last_activity": self.kernel.last_activity,
            "last_kernel_activity": self.manager.last_kernel_activity,
            "reason": self.kernel.reason,
        }

    def close(self) -> None:
        """Close everything."""
        if not self.kernel._activity_stream.closed():
            self.kernel._activity_stream.close()
        self.context.destroy(linger=0)


@contextmanager
def receiving(way: str) -> Iterator[None]:
    """Let a watcher that is made meanwhile receive natively, or with pyzmq."""
    assert drain().native, drain().reason
    with patch(
        "kernelwire.log.kernel_log.drain", lambda: Drain(way == NATIVE, "the test's choice")
    ):
        yield


@contextmanager
def date_of(now: list[datetime]) -> Iterator[None]:
    """Let the managers' clock show ``now[0]``."""
    with (
        patch("jupyter_server.services.kernels.kernelmanager.utcnow", lambda: now[0]),
        patch("kernelwire.kernels.manager.utcnow", lambda: now[0]),
        patch("kernelwire.kernels.states.utcnow", lambda: now[0]),
    ):
        yield


def header(msg_type: Any, **fields: Any) -> dict[str, Any]:
    """Make a header like no other before; one of ``fields`` that is ``None`` is left out."""
    whole = {
        "msg_id": f"id-{next(_addresses)}",
        "msg_type": msg_type,
        "username": "kernel",
        "session": "s",
        "date": datetime(2026, 1, 1, tzinfo=UTC).isoformat(),
        "version": "5.4",
    }
    left_out = {key for key, value in fields.items() if value is None}
    return {key: value for key, value in (whole | fields).items() if key not in left_out}


def parts(
    msg_type: str, parent_type: str | None = None, content: Any = None, **fields: Any
) -> list[bytes]:
    """Make the four parts of a message; ``fields`` go to its header."""
    parent = {} if parent_type is None else header(parent_type)
    documents = (header(msg_type, **fields), parent, {}, content or {})
    return [json.dumps(document).encode() for document in documents]


def status(state: Any, parent_type: str | None = "execute_request", **fields: Any) -> list[bytes]:
    """Make the parts of a status message."""
    return parts("status", parent_type, {"execution_state": state}, **fields)
