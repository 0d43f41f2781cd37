"""A kernel that publishes to however many subscribe, the watcher that follows it, and its clients."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import zmq
from jupyter_client.session import Session
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from traitlets.config import Config
from zmq.eventloop.zmqstream import ZMQStream

from kernelwire import KernelwireKernelsMixin
from kernelwire._logging import Throttle
from kernelwire.log import client
from kernelwire.log.backlog import Backlog
from kernelwire.log.channel import LogStream
from support.waiting import wait_until_async
from support.watching import DELIMITER, KERNEL_ID, NATIVE, receiving, status
from support.workbench import Lines

if TYPE_CHECKING:
    from collections.abc import Iterator


class Kernel:
    """What a manager of kernels asks of one of them; remembers each state that it is given."""

    reason = ""
    last_activity = None
    _activity_stream: Any = None

    def __init__(self, session: Session, publishing: Publishing) -> None:
        self.session = session
        self.states: list[str] = ["starting"]
        self._publishing = publishing

    @property
    def execution_state(self) -> str:
        """The last state."""
        return self.states[-1]

    @execution_state.setter
    def execution_state(self, state: str) -> None:
        self.states.append(state)
        self._publishing.on_state()

    def connect_iopub(self) -> ZMQStream:
        """Subscribe."""
        return self._publishing.subscribe()


class Publishing:
    """A watched kernel; must be made while an event loop runs."""

    def __init__(
        self, way: str = NATIVE, scheme: str = "hmac-sha256", policy: str = "stock"
    ) -> None:
        self.log = Lines()
        logger = logging.Logger("publishing")  # noqa: LOG001 (one of its own for each)
        logger.setLevel(logging.INFO)
        logger.addHandler(self.log)
        self.context = zmq.Context()
        self.publisher = self.context.socket(zmq.XPUB)
        self.publisher.set_hwm(0)
        # Each subscriber is told of, and not only the first and the last of a topic's.
        self.publisher.setsockopt(zmq.XPUB_VERBOSER, 1)
        self._port = self.publisher.bind_to_random_port("tcp://127.0.0.1")
        self._subscribers = 0
        self.subscriptions = 0
        """How many there were so far; brought up to date with :attr:`subscribers`."""
        self.on_state: Any = lambda: None
        config = Config({"Session": {"signature_scheme": scheme, "key": b"key"}})
        self.session = Session(config=config)
        self.kernel = Kernel(self.session, self)
        mixed: Any = type("Mixed", (KernelwireKernelsMixin, AsyncMappingKernelManager), {})
        self.manager: Any = mixed(log=logger, execution_state_policy=policy)
        self.manager._kernels = {KERNEL_ID: self.kernel}
        self.sent: list[str] = []
        with receiving(way):
            self.manager.start_watching_activity(KERNEL_ID)
        self.watcher: Any = self.kernel._activity_stream

    def subscribe(self) -> ZMQStream:
        """Make a stream of what the kernel publishes."""
        socket = self.context.socket(zmq.SUB)
        socket.set_hwm(0)
        socket.subscribe(b"")
        socket.connect(f"tcp://127.0.0.1:{self._port}")
        return ZMQStream(socket)

    @property
    def subscribers(self) -> int:
        """How many subscriptions the kernel serves."""
        while self.publisher.poll(0):
            subscribes = self.publisher.recv() == b"\x01"
            self._subscribers += 1 if subscribes else -1
            self.subscriptions += subscribes
        return self._subscribers

    async def until_subscribed(self, count: int) -> None:
        """Wait until the kernel serves so many subscriptions."""
        await wait_until_async(lambda: self.subscribers == count, what=f"{count} subscribers")

    def frames(self, state: str) -> list[bytes]:
        """Make a signed message that tells a state."""
        parts = status(state)
        return [b"topic", DELIMITER, self.session.sign(parts[:4]), *parts]

    def publish(self, count: int = 1) -> None:
        """Tell states, each like no other."""
        for _ in range(count):
            self.sent.append(f"state {len(self.sent)}")
            self.publisher.send_multipart(self.frames(self.sent[-1]))

    @property
    def followed(self) -> list[str]:
        """The states that the kernel has published and the watcher has followed."""
        return [state for state in self.kernel.states if state != "starting"]

    def settle(self) -> None:
        """Have everything followed that has come."""
        self.manager.settle_activity(KERNEL_ID)

    async def until_last_followed(self) -> None:
        """Wait until the watcher knows of the last state."""

        def arrived() -> bool:
            self.settle()
            return self.kernel.execution_state == self.sent[-1]

        await wait_until_async(arrived, what="the last state")

    async def until_followed(self) -> None:
        """Wait until the watcher knows of all states."""

        def arrived() -> bool:
            self.settle()
            return len(self.followed) >= len(self.sent)

        await wait_until_async(arrived, what="all states")
        assert self.followed == self.sent

    def close(self) -> None:
        """Close everything."""
        if KERNEL_ID in self.manager:
            self.manager.stop_watching_activity(KERNEL_ID)
        self.context.destroy(linger=0)


class Client:
    """A client of the kernel's log, for which all that is published waits."""

    def __init__(self, kernel: Publishing) -> None:
        log = kernel.manager.kernel_log(KERNEL_ID)
        self.stream = LogStream(log)
        self._client = client.Client(log, lambda: 0, Throttle(logging.getLogger("publishing")))
        self.buffer = Backlog(self._client)
        self.read()

    def read(self) -> None:
        """Read the log."""
        self._client.read_from({"iopub": self.stream})

    def close(self) -> None:
        """Close the stream as managers and connections do."""
        self.stream.on_recv(None)
        self.stream.close()
        self._client.close()


@contextmanager
def publishing(way: str = NATIVE, **options: Any) -> Iterator[Publishing]:
    """Make a watched kernel for a while; nothing may have escaped to the event loop."""
    escaped: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
    kernel = Publishing(way, **options)
    try:
        yield kernel
        assert escaped == []
    finally:
        kernel.close()
