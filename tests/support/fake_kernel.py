"""A kernel that does what it is told, and nothing else: `python fake_kernel.py CONNECTION_FILE`.

An execute request's code is a JSON list of steps (`Kernel.steps` names them), run in order:

    {"do": "emit", "type": "stream", "count": 3, "size": 100, "buffers": [5, 0], "header": {}}
    {"do": "emit", "count": 3, "size": 100, "noise": true}      text that cannot be compressed
    {"do": "print_bytes", "texts": ["ff0a"]}        each as it is, in hex: JSON of any encoding
    {"do": "odd", "kind": "no_delimiter", "count": 2}
    {"do": "wait_for", "path": "/a/file/the/test/will/make"}
    {"do": "touch", "path": "/a/file/the/test/waits/for"}
    {"do": "status", "state": "idle"}
    {"do": "hush"}                      once it is idle, it publishes no status any more
    {"do": "ask"}                       whoever has sent the request, and wait for no answer
    {"do": "tick", "count": 500}        numbered messages while serving requests, so many at least
    {"do": "exit"}

The n-th emitted message of a kernel has n in its metadata as "number", so that loss, doubling and
disorder show; what is published is never dropped on this side. The reply to a kernel info request
says how many were "emitted", how many ticks are "to_come", and how often that was "asked". Comm messages are sent back on iopub
as they came. Environment: FAKE_KERNEL_MUTE=1 answers nothing, FAKE_KERNEL_STDIN=3 is asked for its
info three times before it listens on stdin, FAKE_KERNEL_HANDOVER=0 keeps a ROUTER from giving an
identity to a new peer, FAKE_KERNEL_XPUB=1 greets each subscriber (JEP 65), FAKE_KERNEL_UTC=+00:00 is
how its dates end, which are else those of ipykernel: a server that parses them writes others.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import signal
import sys
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DELIMITER = b"<IDS|MSG>"
VARIANTS = {
    "fake": {},
    "fake-mute": {"FAKE_KERNEL_MUTE": "1"},
    "fake-no-handover": {"FAKE_KERNEL_HANDOVER": "0"},
    "fake-xpub": {"FAKE_KERNEL_XPUB": "1"},
    "fake-offset": {"FAKE_KERNEL_UTC": "+00:00"},
    "fake-late-stdin": {"FAKE_KERNEL_STDIN": "3"},
    "fake-no-stdin": {"FAKE_KERNEL_STDIN": "1000000"},
}
Header = dict[str, Any]
ODD_PARENTS = {"parent_null": b"null", "parent_empty": b"{}"}
ODD_FIELDS: dict[str, Header] = {
    "version_empty": {"version": ""},
    "version_null": {"version": None},
    "nanoseconds": {"date": "2026-11-26T13:53:41.123456789Z"},
    "date_null": {"date": None},
}
"""Headers that are legal, or nearly, and that some kernels send."""


def script(*steps: dict[str, Any]) -> str:
    """Steps as the code of an execute request."""
    return json.dumps(steps)


def emit(count: int, **options: object) -> dict[str, object]:
    """A step that emits numbered outputs."""
    return {"do": "emit", "count": count, **options}


def install(data_dir: Path) -> None:
    """Write the kernel specs of all variants into a Jupyter data folder."""
    for name, environment in VARIANTS.items():
        folder = data_dir / "kernels" / name
        folder.mkdir(parents=True)
        spec = {
            "argv": [sys.executable, str(Path(__file__).resolve()), "{connection_file}"],
            "display_name": name,
            "language": "json",
            "interrupt_mode": "message",
            "metadata": {"supported_encryption": "curve"},
            "env": environment,
        }
        (folder / "kernel.json").write_text(json.dumps(spec))


def buffer_bytes(size: int) -> bytes:
    """The bytes of an emitted buffer: every value occurs, the pattern tells positions apart."""
    pattern = bytes((i * 7 + i // 256) % 256 for i in range(65536))
    return (pattern * (size // len(pattern) + 1))[:size]


class Kernel:
    """Sockets, signing, and the steps of a script."""

    def __init__(self, connection: dict[str, Any]) -> None:
        self._key = connection["key"].encode()
        self._session = uuid.uuid4().hex
        self._number = 0
        self._ticks_left = 0
        self._hushing = self._hushed = False
        self._asked = 0
        self._running = True
        self._mute = os.environ.get("FAKE_KERNEL_MUTE") == "1"
        self._greets = os.environ.get("FAKE_KERNEL_XPUB") == "1"
        self._utc = os.environ.get("FAKE_KERNEL_UTC", "Z")
        self._deaf = int(os.environ.get("FAKE_KERNEL_STDIN", "0"))
        self._asker: list[bytes] = []
        context = zmq.Context.instance()
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        for channel, kind in (
            ("shell", zmq.ROUTER),
            ("control", zmq.ROUTER),
            ("stdin", zmq.ROUTER),
            ("iopub", zmq.XPUB if self._greets else zmq.PUB),
            ("hb", zmq.REP),
        ):
            socket = self._sockets[channel] = context.socket(kind)
            socket.linger = 1000
            socket.sndhwm = 0
            if "curve_secretkey" in connection:
                socket.curve_server = True
                socket.curve_publickey = connection["curve_publickey"].encode()
                socket.curve_secretkey = connection["curve_secretkey"].encode()
            if kind == zmq.XPUB:
                socket.xpub_verboser = 1
            if kind == zmq.ROUTER and os.environ.get("FAKE_KERNEL_HANDOVER") != "0":
                socket.router_handover = 1
            # A port of ipc is the end of a file's name.
            between = "-" if connection.get("transport") == "ipc" else ":"
            address = f"{connection['ip']}{between}{connection[f'{channel}_port']}"
            address = f"{connection.get('transport', 'tcp')}://{address}"
            if channel == "stdin" and self._deaf:
                self._stdin = address
            else:
                socket.bind(address)
        self.steps: dict[str, Callable[..., None]] = {
            "emit": self._emit,
            "print_bytes": self._print_bytes,
            "odd": self._odd,
            "wait_for": self._wait_for,
            "touch": self._touch,
            "status": self._status,
            "hush": self._hush,
            "ask": self._ask,
            "tick": self._tick,
            "exit": self._exit,
        }

    def serve(self) -> None:
        """Answer requests until told to stop."""
        poller = zmq.Poller()
        for channel in ("control", "shell", "hb"):
            poller.register(self._sockets[channel], zmq.POLLIN)
        if self._greets:
            poller.register(self._sockets["iopub"], zmq.POLLIN)
        while self._running:
            ready = dict(poller.poll(2 if self._ticks_left else None))
            if self._sockets["hb"] in ready:
                self._sockets["hb"].send(self._sockets["hb"].recv())
            if self._sockets["iopub"] in ready and self._sockets["iopub"].recv()[:1] == b"\1":
                self._odd({}, {"kind": "welcome"})
            for channel in ("control", "shell"):
                if self._sockets[channel] in ready:
                    self._serve_one(channel)
            if self._ticks_left:
                self._ticks_left -= 1
                self._emit({}, {"type": "display_data"})
        zmq.Context.instance().destroy()

    # requests

    def _serve_one(self, channel: str) -> None:
        frames = self._sockets[channel].recv_multipart()
        if self._mute:
            return
        split = frames.index(DELIMITER)
        try:
            header: Header = json.loads(frames[split + 2])
            content = json.loads(frames[split + 5])
            msg_type = header["msg_type"]
            is_comm = msg_type.startswith("comm_")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            return
        # What a kernel has parsed is spelled anew where it is a message's parent.
        with suppress(ValueError, KeyError, TypeError):
            header["date"] = self._spelled(datetime.fromisoformat(header["date"]))
        if not self._hushed:
            self._status(header, {"state": "busy"})
        if is_comm:
            self._send("iopub", msg_type, header, content, buffers=frames[split + 6 :])
        else:
            self._answer(channel, frames[:split], header, msg_type, content)
        if not self._hushed:
            self._status(header, {"state": "idle"})
        self._hushed = self._hushing

    def _answer(
        self, channel: str, idents: list[bytes], header: Header, msg_type: str, content: Header
    ) -> None:
        reply: dict[str, Any] = {"status": "ok"}
        if msg_type == "execute_request":
            reply["execution_count"] = 1
            self._asker = idents
            for step in json.loads(content["code"]):
                self.steps[step["do"]](header, step)
        elif msg_type == "kernel_info_request":
            self._asked += 1
            if self._asked == self._deaf:
                self._sockets["stdin"].bind(self._stdin)
            reply |= {"protocol_version": "5.4", "implementation": "fake", "banner": ""}
            reply["language_info"] = {"name": "json", "version": "1", "file_extension": ".json"}
            reply |= {"emitted": self._number, "to_come": self._ticks_left, "asked": self._asked}
        elif msg_type == "shutdown_request":
            reply["restart"] = content.get("restart", False)
            self._running = False
        self._send(channel, msg_type.replace("_request", "_reply"), header, reply, idents=idents)

    # steps

    def _emit(self, parent: Header, step: dict[str, Any]) -> None:
        buffers = [buffer_bytes(size) for size in step.get("buffers", ())]
        for _ in range(step.get("count", 1)):
            msg_type = step.get("type", "display_data")
            padding = _padding(step.get("size", 0), noise=step.get("noise", False))
            content = _content(msg_type, self._number, padding)
            metadata = {"number": self._number}
            self._number += 1
            self._send(
                step.get("channel", "iopub"),
                msg_type,
                parent,
                content,
                metadata,
                buffers=buffers,
                fields=step.get("header"),
            )

    def _print_bytes(self, parent: Header, step: dict[str, Any]) -> None:
        for text in step["texts"]:
            header, parent_header, metadata, _ = self._parts("stream", parent, {}, {})
            content = b'{"name": "stdout", "text": "%s"}' % bytes.fromhex(text)
            parts = [header, parent_header, metadata, content]
            self._sockets["iopub"].send_multipart(self._signed(parts))

    def _odd(self, parent: Header, step: dict[str, Any]) -> None:
        for _ in range(step.get("count", 1)):
            self._sockets["iopub"].send_multipart(self._odd_frames(step["kind"], parent))

    def _wait_for(self, _parent: Header, step: dict[str, Any]) -> None:
        while not Path(step["path"]).exists():
            time.sleep(0.005)

    def _touch(self, _parent: Header, step: dict[str, Any]) -> None:
        Path(step["path"]).touch()

    def _status(self, parent: Header, step: dict[str, Any]) -> None:
        self._send("iopub", "status", parent, {"execution_state": step["state"]})

    def _hush(self, _parent: Header, _step: dict[str, Any]) -> None:
        self._hushing = True

    def _ask(self, parent: Header, _step: dict[str, Any]) -> None:
        question = {"prompt": "who? ", "password": False}
        self._send("stdin", "input_request", parent, question, idents=self._asker)

    def _tick(self, _parent: Header, step: dict[str, Any]) -> None:
        self._ticks_left = max(self._ticks_left, step["count"])

    def _exit(self, _parent: Header, _step: dict[str, Any]) -> None:
        # Everything published is written out before the process is gone, on a busy machine, too.
        zmq.Context.instance().destroy(linger=30_000)
        os._exit(1)

    # the wire

    def _odd_frames(self, kind: str, parent: Header) -> list[bytes]:
        good = self._parts("display_data", parent, _content("display_data", -1, ""), {})
        frames = {
            "no_delimiter": [b"topic", b"neither", b"here"],
            "bad_signature": [b"topic", DELIMITER, b"0" * 64, *good],
            "identities": [b"topic", b"", b"another", *self._signed(good)[1:]],
        }
        if kind in frames:
            return frames[kind]
        if kind.startswith("parts_"):
            return self._signed(good[: int(kind.removeprefix("parts_"))])
        if kind == "welcome":
            welcome = self._parts("iopub_welcome", {}, {"subscription": ""}, {})
            return self._signed([welcome[0], b"null", *welcome[2:]])
        if kind == "status_bad_content":
            status = self._parts("status", parent, {"execution_state": "idle"}, {})
            return self._signed([*status[:3], b"[]"])
        if kind in ODD_PARENTS:
            return self._signed([good[0], ODD_PARENTS[kind], *good[2:]])
        header = json.loads(good[0])
        header |= ODD_FIELDS.get(kind, {})
        if kind == "no_msg_type":
            del header["msg_type"]
        elif kind == "unhashable_msg_type":
            header["msg_type"] = ["display_data"]
        replaced = {"header_not_json": b"{nonsense", "header_not_dict": b"[1, 2]"}
        return self._signed([replaced.get(kind, json.dumps(header).encode()), *good[1:]])

    def _parts(
        self,
        msg_type: str,
        parent: Header,
        content: dict[str, Any],
        metadata: dict[str, Any],
        fields: Header | None = None,
    ) -> list[bytes]:
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": msg_type,
            "username": "kernel",
            "session": self._session,
            "date": self._spelled(datetime.now(UTC)),
            "version": "5.4",
            **(fields or {}),
        }
        return [json.dumps(part).encode() for part in (header, parent, metadata, content)]

    def _spelled(self, date: datetime) -> str:
        return date.isoformat().replace("+00:00", self._utc)

    def _signed(self, parts: Sequence[bytes]) -> list[bytes]:
        digest = hmac.new(self._key, digestmod=hashlib.sha256)
        for part in parts:
            digest.update(part)
        return [b"topic", DELIMITER, digest.hexdigest().encode(), *parts]

    def _send(
        self,
        channel: str,
        msg_type: str,
        parent: Header,
        content: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        *,
        idents: Sequence[bytes] = (b"topic",),
        buffers: Sequence[bytes] = (),
        fields: Header | None = None,
    ) -> None:
        signed = self._signed(self._parts(msg_type, parent, content, metadata or {}, fields))
        self._sockets[channel].send_multipart([*idents, *signed[1:], *buffers])


def _padding(size: int, *, noise: bool) -> str:
    if noise:
        return base64.b64encode(os.urandom(size * 3 // 4 + 1)).decode()[:size]
    return "x" * size


def _content(msg_type: str, number: int, padding: str) -> dict[str, Any]:
    text = f"{number}:{padding}\n"
    if msg_type == "stream":
        return {"name": "stdout", "text": text}
    if msg_type == "status":
        return {"execution_state": "busy", "text": text}
    if msg_type == "error":
        return {"ename": "Fake", "evalue": text, "traceback": [text]}
    if msg_type in ("comm_open", "comm_msg", "comm_close"):
        return {"comm_id": "fake-comm", "target_name": "fake", "data": {"text": text}}
    return {"data": {"text/plain": text}, "metadata": {}, "transient": {}, "execution_count": 1}


def main() -> None:
    """Serve the connection file named on the command line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = json.loads(Path(sys.argv[1]).read_text())
    Kernel(connection).serve()


if __name__ == "__main__":
    main()
