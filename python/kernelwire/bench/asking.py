"""Asking kernels for something and waiting for it, over a websocket or past the server."""

from __future__ import annotations

import json
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import zmq

from kernelwire.bench.client import KernelSocket, SilenceError, pump
from kernelwire.bench.flood_kernel import DELIMITER, Order, Signer
from kernelwire.bench.verify import WrongAnswerError, message_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernelwire.bench.host import Host

QUIET_S = 15.0
"""Longest silence in the middle of something that still is to arrive."""
ANSWER_S = 1.0
READY_TRIES = 20
"""How often a new websocket asks whether it is live, and how long it waits each time."""
SILENCE_S = 0.1
"""Silence after which a new websocket has nothing left over from its start."""
EXTRA_MESSAGES = 3
"""What surrounds a flood on the websocket: busy, idle and the reply."""


@contextmanager
def connected(server: Host, kernel_id: str, *, legacy: bool = False) -> Iterator[KernelSocket]:
    """Open a websocket, hear the kernel on it, and empty it of what that took."""
    legacy = legacy or server.default_protocol
    client = KernelSocket(server.port, server.token, kernel_id, legacy=legacy)
    try:
        make_ready(client)
        yield client
    finally:
        client.close()


@contextmanager
def listening(server: Host) -> Iterator[KernelSocket]:
    """Start a kernel and open a websocket to it; both end with the block."""
    with server.kernel() as kernel, connected(server, kernel) as client:
        yield client


def make_ready(client: KernelSocket) -> None:
    """Ask until busy, reply and idle of one request all arrive, then wait for silence.

    The server may use up the first messages of a connection to find out whether it is live, and
    the answers to the questions it asked for that still trickle in afterwards.
    """
    hear_kernel(client)
    with suppress(SilenceError):
        pump([client], lambda: False, SILENCE_S)
    client.clear()


def hear_kernel(client: KernelSocket) -> None:
    """Ask until busy, reply and idle of one request all arrive."""
    for _ in range(READY_TRIES):
        msg_id = client.send("kernel_info_request", {})
        with suppress(SilenceError):
            pump([client], partial(is_answered, client, msg_id), ANSWER_S)
            return
    msg = "the kernel never answered over this websocket"
    raise WrongAnswerError(msg)


def is_answered(client: KernelSocket, msg_id: str) -> bool:
    """Whether everything that answers the request `msg_id` is here."""
    messages = (message_of(client, index) for index in range(client.count))
    return sum(message.parent_id == msg_id for message in messages) == EXTRA_MESSAGES


def receive_flood(client: KernelSocket, count: int) -> None:
    """Wait for a whole flood. If it stays away, checking will say what is missing."""
    with suppress(SilenceError):
        client.wait_for(count + EXTRA_MESSAGES, QUIET_S)


def order_flood(client: KernelSocket, order: Order) -> str:
    """Send an order to the kernel behind `client`; returns the request's id."""
    return client.execute(json.dumps(asdict(order)))


def receive_all(clients: list[KernelSocket], count: int) -> None:
    """Wait until every client has its whole flood, or all fall silent."""
    wanted = (count + EXTRA_MESSAGES) * len(clients)
    with suppress(SilenceError):
        pump(clients, lambda: sum(client.count for client in clients) >= wanted, QUIET_S)


def wait_until_idle(server: Host, kernel: str, timeout: float = 20.0) -> None:
    """Wait until the server has heard the kernel, asking the kernel for something to say."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        execute_directly(server.connection_file(kernel), Order(count=1))
        if server.request("GET", f"/api/kernels/{kernel}")["execution_state"] == "idle":
            return
        time.sleep(0.1)
    msg = f"kernel {kernel} was not idle after {timeout:g} s"
    raise WrongAnswerError(msg)


def execute_directly(connection: dict[str, Any], order: Order) -> dict[str, Any]:
    """Order a flood over the kernel's own shell socket; returns the kernel's account of it."""
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "session": "direct"}
    header |= {"username": "bench", "version": "5.3", "date": "2026-01-01T00:00:00.123456Z"}
    content = {"code": json.dumps(asdict(order))}
    parts = [json.dumps(part).encode() for part in (header, {}, {}, content)]
    signature = Signer(connection["key"].encode()).sign(parts)
    with zmq.Context() as context, context.socket(zmq.DEALER) as shell:
        shell.linger = 0
        shell.connect(f"{connection['transport']}://{connection['ip']}:{connection['shell_port']}")
        shell.send_multipart([DELIMITER, signature, *parts])
        if not shell.poll(int(QUIET_S * 1000) + order.count):
            raise WrongAnswerError("the kernel did not answer")
        frames = shell.recv_multipart()
    reply: dict[str, Any] = json.loads(frames[frames.index(DELIMITER) + 5])
    return dict(reply["flood"])
