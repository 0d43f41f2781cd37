"""Each codec function and each step on a message's way, one by one: stock beside kernelwire.

Usage: ``python -m benches.codec --json benches/results/codec.json``. pytest-benchmark does the
timing; ``--fast`` runs everything once and times nothing. Both answers are compared before the
clock starts, and where they differ there is no result at all. What tornado does before either has
the message is timed beside them. ``benches/README.md`` says what the steps are.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import zmq
from jupyter_client.jsonutil import json_default
from jupyter_client.session import Session
from jupyter_server.services.kernels.connection import base
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.websocket import KernelWebsocketHandler
from traitlets import Bool, Float, List
from traitlets.config import LoggingConfigurable
from zmq.eventloop.zmqstream import ZMQStream

from benches.frames import reading
from benches.report import render
from kernelwire import KernelwireWebsocketConnection, _native, wire
from kernelwire.bench import environment, stats
from kernelwire.log.kernel_log import empty_log
from kernelwire.sockets.stream import KernelwireStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

V1 = "v1.kernel.websocket.jupyter.org"
STOCK, OURS = "stock", "kernelwire"
CONTENDERS = (STOCK, OURS)
TORNADO = "tornado"
"""Not a contender: what is the same for both."""

FIGURE = "us_per_call"
ROUNDS_VARIABLE = "KERNELWIRE_BENCH_ROUNDS"
KEY = b"key"

SIZES = {"100 B": (100, ()), "2 KB": (2000, ()), "1 MB": (100, (250_000,) * 4)}
"""Characters of text, and bytes of each buffer."""

HIGH = 1e12
WINDOW = 0.01
"""The limiter is on and out of reach; its window has as many messages as at an ordinary rate."""


# what is worked on


@dataclass(frozen=True)
class Sample:
    """One message, in every form that a step may need."""

    session: Session
    message: dict[str, Any]

    @classmethod
    def of(cls, size: str, msg_type: str = "stream") -> Sample:
        """Make a message of a size, as ipykernel or a browser would."""
        characters, buffers = SIZES[size]
        session = Session(session="bench", key=KEY)
        parent = session.msg("execute_request")
        content = {"name": "stdout", "text": "x" * characters}
        message = session.msg(msg_type, content, parent=parent)
        message["buffers"] = [os.urandom(length) for length in buffers]
        return cls(session, message)

    @property
    def frames(self) -> list[bytes]:
        """As a kernel sends it."""
        signed: list[bytes] = self.session.serialize(self.message)
        return [b"kernel.iopub", *signed, *self.message["buffers"]]

    @property
    def parts(self) -> list[bytes]:
        """Behind the signature."""
        return self.frames[3:]

    @property
    def with_buffer(self) -> dict[str, Any]:
        """For the binary form of the default protocol, which is for messages with buffers."""
        return self.message | {
            "channel": "shell",
            "buffers": self.message["buffers"] or [b"0123456789abcdef"],
        }


class Handler(KernelWebsocketHandler):
    """Takes what it is given to write, and knows no network."""

    ws_connection: Any = SimpleNamespace(is_closing=lambda: False)

    selected_subprotocol: Any = V1

    def __init__(self) -> None:
        self.written: Any = None

    def write_message(self, message: Any, binary: bool = False) -> Any:  # noqa: ARG002
        """Keep the message."""
        self.written = message


class Kernels(LoggingConfigurable):
    """What a connection asks of the manager of all kernels."""

    allow_tracebacks = Bool(True)
    allowed_message_types: List[Any] = List()
    kernel_info_timeout = Float(60)


class Kernel(LoggingConfigurable):
    """What a connection asks of the manager of one kernel."""

    kernel_id = "kernel"


class Iopub:
    """What the one-message path asks of a stream."""

    channel = "iopub"

    def closed(self) -> bool:
        """Answer that it is open."""
        return False


def connection(contender: str, protocol: str | None) -> Any:
    """Make a connection that writes into its handler."""
    cls = ZMQChannelsWebsocketConnection if contender == STOCK else KernelwireWebsocketConnection
    log = logging.getLogger("benches.codec")
    handler = Handler()
    handler.selected_subprotocol = protocol
    return cls(
        parent=Kernel(parent=Kernels(log=log)),
        websocket_handler=handler,
        session=Session(session="bench", key=KEY),
        log=log,
        iopub_msg_rate_limit=HIGH,
        iopub_data_rate_limit=HIGH,
        rate_limit_window=WINDOW,
    )


# the steps: what each contender does, as calls whose answers must be equal


def v1_encode(size: str) -> dict[str, Any]:
    """Kernel message to v1 frame."""
    parts = Sample.of(size).parts
    return {
        STOCK: lambda: base.serialize_msg_to_ws_v1(parts, "iopub"),
        OURS: lambda: wire.serialize_msg_to_ws_v1(parts, "iopub"),
    }


def v1_decode(size: str) -> dict[str, Any]:
    """From a v1 frame to the parts."""
    frame = base.serialize_msg_to_ws_v1(Sample.of(size).parts, "shell")
    return {
        STOCK: lambda: base.deserialize_msg_from_ws_v1(frame),
        OURS: lambda: wire.deserialize_msg_from_ws_v1(frame),
    }


def legacy_encode(size: str) -> dict[str, Any]:
    """From a message to a binary frame of the default protocol."""
    message = Sample.of(size).with_buffer
    return {
        STOCK: lambda: base.serialize_binary_message(message),
        OURS: lambda: wire.serialize_binary_message(message),
    }


def legacy_decode(size: str) -> dict[str, Any]:
    """From a binary frame of the default protocol to a message."""
    frame = base.serialize_binary_message(Sample.of(size).with_buffer)
    return {
        STOCK: lambda: base.deserialize_binary_message(frame),
        OURS: lambda: wire.deserialize_binary_message(frame),
    }


def verify_and_peek(size: str) -> dict[str, Any]:
    """Verify the signature and read both message types, as the activity watcher does."""
    sample = Sample.of(size)
    frames, session = sample.frames, sample.session
    watch = _native.Watch(KEY)

    def stock() -> Any:
        _, parts = session.feed_identities(frames)
        msg = session.deserialize(parts, content=False)
        return [(msg["header"]["msg_type"], msg["parent_header"]["msg_type"], None)]

    def ours() -> Any:
        watch.feed(frames)
        return [(said, parent, state) for said, parent, state, _ in watch.take()[0]]

    return {STOCK: stock, OURS: ours}


def read_from_log(ours: Any) -> Callable[[list[bytes]], bytes]:
    """Return what appends a message to a log, and reads it as a client of ``ours`` would."""
    log = empty_log(KEY)
    cursor = log.open()
    cursor.apply(ours.settings_of_cursor())

    def read(frames: list[bytes]) -> bytes:
        now = time.time()
        log.append(frames, now)
        written: Any = cursor.write(-1, now)
        if isinstance(written, bool) or written[2] is None:
            return b""
        frame = b"".join(written[2])
        cursor.acknowledge(len(frame))
        # The head of a frame has 2, 4 or 10 bytes: RFC 6455, section 5.2.
        return frame[{126: 4, 127: 10}.get(frame[1], 2) :]

    return read


def limit(size: str) -> dict[str, Any]:
    """Whether the rate limit withholds a message; ours frames it on the way, stock does not."""
    sample = Sample.of(size)
    parts, frames = sample.parts, sample.frames
    theirs, read = connection(STOCK, V1), read_from_log(connection(OURS, V1))

    def stock() -> Any:
        unread = {"header": None, "parent_header": None, "content": None}
        return theirs._limit_rate("iopub", unread, parts)

    def ours() -> Any:
        return not read(frames)

    return {STOCK: stock, OURS: ours}


def feed(size: str) -> dict[str, Any]:
    """One kernel message until the websocket has it: split, peek, limit, frame."""
    frames = Sample.of(size).frames
    theirs, read = connection(STOCK, V1), read_from_log(connection(OURS, V1))
    iopub = Iopub()

    def stock() -> Any:
        theirs.handle_outgoing_message(iopub, frames)
        return theirs.websocket_handler.written

    def ours() -> Any:
        return read(frames)

    return {STOCK: stock, OURS: ours}


STEPS: dict[str, Callable[[str], dict[str, Any]]] = {
    "v1 encode": v1_encode,
    "v1 decode": v1_decode,
    "legacy encode": legacy_encode,
    "legacy decode": legacy_decode,
    "verify and peek": verify_and_peek,
    "limit": limit,
    "feed": feed,
}
REQUESTS = {"v1 request": V1, "legacy request": None}
"""A frame from the client until libzmq has the message; these leave something to clear away."""

CASES = [
    f"{step}, {size}"
    for step in (*STEPS, *REQUESTS)
    for size in SIZES
    if (step, size) != ("limit", "1 MB")  # ours would copy the buffers, which stock's leaves
]
OUTSIDE = {
    f"outside, the same for both: tornado reads the frame of a {step}, {size}": (step, size)
    for step in REQUESTS
    for size in SIZES
}
"""What comes before a request, and is in none of the other cases."""


class Requests:
    """A connection whose shell has somebody at the other end."""

    def __init__(self, contender: str, protocol: str | None, frame: Any) -> None:
        self._context = zmq.Context()
        self._kernel, near = (self._context.socket(zmq.PAIR) for _ in range(2))
        for each in (self._kernel, near):
            each.set_hwm(0)
        self._kernel.bind("inproc://shell")
        near.connect("inproc://shell")
        stream: Any = ZMQStream(near)
        stream.channel = "shell"
        self._stream: Any = KernelwireStream.adopt(stream) if contender == OURS else stream
        self._connection = connection(contender, protocol)
        self._connection.channels = {"shell": self._stream}
        if contender == OURS:
            self._connection._go_live()
        self._frame = frame

    def send(self) -> None:
        """Handle the frame, and see that the message is gone."""
        self._connection.handle_incoming_message(self._frame)
        if self._stream.sending():
            self._stream.flush(zmq.POLLOUT)

    def received(self) -> list[list[bytes]]:
        """Take what has arrived, and let the event loop do what it was asked to."""
        self._stream.io_loop.asyncio_loop.run_until_complete(asyncio.sleep(0))
        messages = []
        while self._kernel.poll(0):
            messages.append(self._kernel.recv_multipart())
        return messages

    def clear(self) -> None:
        """Take what has arrived out of the way."""
        self.received()

    def answer(self) -> list[Any]:
        """Send once; each frame, as JSON where it is, which the two may write differently."""
        self.clear()
        self.send()
        (frames,) = self.received()
        split = frames.index(b"<IDS|MSG>")
        return [*map(json.loads, frames[split + 2 : split + 6]), *frames[split + 6 :]]

    def close(self) -> None:
        """Close everything."""
        self._stream.close()
        self._context.destroy(linger=0)


def request(step: str, size: str) -> str | bytes:
    """Make the websocket message of a request."""
    sample = Sample.of(size, "comm_msg")
    message = sample.message | {"channel": "shell"}
    if REQUESTS[step] == V1:
        return base.serialize_msg_to_ws_v1(sample.parts, "shell")
    if message["buffers"]:
        return base.serialize_binary_message(message)
    del message["buffers"]
    return json.dumps(message, default=json_default)


@contextmanager
def requests(step: str, size: str) -> Iterator[dict[str, Requests]]:
    """Make connections of both contenders, with the same frame to handle."""
    frame, protocol = request(step, size), REQUESTS[step]
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    both = {name: Requests(name, protocol, frame) for name in CONTENDERS}
    try:
        yield both
    finally:
        for each in both.values():
            each.close()
        asyncio.set_event_loop(None)
        loop.close()


# timing


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Take turns: contenders alternate within a round and swap places from round to round."""
    rounds = int(os.environ.get(ROUNDS_VARIABLE, "1"))
    if metafunc.function is test_outside:
        outside = [(turn, case) for turn in range(rounds) for case in OUTSIDE]
        metafunc.parametrize(("turn", "case"), outside)
        return
    turns = [
        (turn, case, contender)
        for turn in range(rounds)
        for case in CASES
        for contender in CONTENDERS[:: -1 if turn % 2 else 1]
    ]
    metafunc.parametrize(("turn", "case", "contender"), turns)


def test_step(benchmark: Any, turn: int, case: str, contender: str) -> None:
    """Compare both answers, then time one of the contenders."""
    step, size = case.split(", ")
    benchmark.group = case
    benchmark.extra_info.update(turn=turn, case=case, contender=contender)
    if step in REQUESTS:
        with requests(step, size) as both:
            assert both[STOCK].answer() == both[OURS].answer()
            mine = both[contender]
            benchmark.pedantic(mine.send, setup=mine.clear, rounds=sends(size), warmup_rounds=20)
        return
    work = STEPS[step](size)
    assert work[STOCK]() == work[OURS]()
    benchmark(work[contender])


@pytest.mark.benchmark(timer=time.thread_time)
def test_outside(benchmark: Any, turn: int, case: str) -> None:
    """Compare what tornado has read, then time it; waiting for the client to send is no work."""
    step, size = OUTSIDE[case]
    benchmark.group = case
    benchmark.extra_info.update(turn=turn, case=case, contender=TORNADO)
    message = request(step, size)
    with reading(message) as reader:
        assert reader.answer() == message
        benchmark.pedantic(reader.read, setup=reader.send, rounds=sends(size), warmup_rounds=20)


def sends(size: str) -> int:
    """How many times a request of a size is sent in a round."""
    return 50 if size == "1 MB" else 1000


# the result


def result(measured: list[dict[str, Any]], rounds: int) -> dict[str, Any]:
    """Put pytest-benchmark's account into the form that ``benches.report`` reads."""
    cases = {case: outcome(case, CONTENDERS, measured) for case in CASES}
    cases |= {case: outcome(case, (TORNADO,), measured) for case in OUTSIDE}
    what = {
        STOCK: "`jupyter_server.services.kernels.connection`",
        OURS: "`kernelwire`",
        TORNADO: "`tornado.websocket`, which is before both and the same for both",
    }
    contenders = {
        name: {"name": name, "what": text, "connection": text.split("`")[1]}
        | {"manager": "none", "environment": {}, "only": []}
        for name, text in what.items()
    }
    return {
        "schema": environment.SCHEMA,
        "kind": "codec",
        "environment": environment.describe(),
        "settings": {"rounds": rounds, "contenders": contenders},
        "cases": cases,
    }


def outcome(case: str, names: Sequence[str], measured: list[dict[str, Any]]) -> dict[str, Any]:
    """One case: all rounds, their summary, and how many times better than stock."""
    contenders: dict[str, Any] = {}
    for name in names:
        rounds = [
            {
                "round": each["extra_info"]["turn"],
                "ok": True,
                "figures": {FIGURE: each["stats"]["median"] * 1e6},
                "counted": each["stats"]["rounds"] * each["stats"]["iterations"],
                "samples_ms": [],
            }
            for each in measured
            if (each["extra_info"]["case"], each["extra_info"]["contender"]) == (case, name)
        ]
        figures = [each["figures"][FIGURE] for each in rounds]
        summary = {FIGURE: stats.summarise(figures).as_json()}
        contenders[name] = {"rounds": rounds, "summary": summary}
    gains = {OURS: {FIGURE: gain(contenders)}} if OURS in contenders else {}
    return {"correct": True, "contenders": contenders, "gains": gains}


def gain(contenders: dict[str, Any]) -> dict[str, float]:
    """How many times better than stock each round is."""
    stock, ours = (
        {each["round"]: each["figures"][FIGURE] for each in contenders[name]["rounds"]}
        for name in CONTENDERS
    )
    return stats.summarise([stock[turn] / ours[turn] for turn in stock]).as_json()


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, time and print; 1 where an answer was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benches.codec", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="times that each step is timed")
    parser.add_argument("--fast", action="store_true", help="run everything once, time nothing")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--quiet", action="store_true", help="print nothing that went well")
    options = parser.parse_args(arguments)
    os.environ[ROUNDS_VARIABLE] = "1" if options.fast else str(options.rounds)
    with tempfile.TemporaryDirectory() as directory:
        raw = Path(directory) / "raw.json"
        command = [
            __file__,
            "-q",
            "--tb=short",
            "--override-ini=addopts=",
            "-p",
            "no:cacheprovider",
        ]
        if options.fast:
            command += ["--benchmark-disable"]
        else:
            command += ["--benchmark-quiet", "--benchmark-disable-gc", f"--benchmark-json={raw}"]
            command += ["--benchmark-max-time=0.05", "--benchmark-min-rounds=10"]
        if code := pytest.main(command):
            return int(code)
        if options.fast:
            return 0
        measured = json.loads(raw.read_text())["benchmarks"]
    outcome_of_all = result(measured, options.rounds)
    if options.json:
        options.json.write_text(json.dumps(outcome_of_all, indent=1) + "\n")
    if not options.quiet:
        print(render(outcome_of_all)[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
