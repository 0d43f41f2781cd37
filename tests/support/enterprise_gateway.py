"""What Enterprise Gateway 3 is to a server whose kernels run there: a stand-in.

It cannot be installed beside kernelwire, as it needs Jupyter Server before 2 and jupyter_client
before 7. This answers as it does, with real kernels: a token in a header (401 without it), errors as
JSON with ``reason`` and ``message``, ``KERNEL_*`` handed to kernels, and the websocket of Jupyter
Server 1: the default protocol only, so that no subprotocol is selected, and a buffer for each session
that is away.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import responses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq.asyncio
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.multikernelmanager import AsyncMultiKernelManager
from tornado.web import Application, HTTPError, RequestHandler
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from support.gateway import Gateway
from support.messages import DICT_PARTS, Message, decode, encode_legacy

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager

    from support.server import JsonConfig

TOKEN_FILE = "gateway.token"
DELIMITER = b"<IDS|MSG>"
CHANNELS = ("shell", "iopub", "stdin", "control")
NUDGE_SECONDS = 0.5
"""How long to wait for a kernel's first output before it is asked for some again."""


class EnterpriseGateway(Gateway):
    """The stand-in in its own process."""

    def command(self, config: JsonConfig) -> list[str]:
        """Return what to run; there is nothing to be configured."""
        assert not config
        self.change_token(self.token)
        return [sys.executable, "-m", "support.enterprise_gateway", str(self.port)]

    def change_token(self, token: str) -> None:
        """Refuse, from now on, who has another token."""
        self.token = token
        (self.home / TOKEN_FILE).write_text(token)


# -- in the process ------------------------------------------------------------------------------


@dataclass
class Kernel:
    """A kernel, and what is known of it."""

    manager: AsyncKernelManager
    name: str
    state: str = "starting"
    last_activity: datetime = field(default_factory=lambda: datetime.now(UTC))
    bridges: dict[str, Bridge] = field(default_factory=dict)
    """By session."""
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once anything was, where its state is followed."""
    watching: asyncio.Task[None] | None = None

    def model(self) -> dict[str, Any]:
        """Return what REST says of it."""
        return {
            "id": self.manager.kernel_id,
            "name": self.name,
            "last_activity": self.last_activity.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "execution_state": self.state,
            "connections": sum(each.websocket is not None for each in self.bridges.values()),
        }

    async def watch(self) -> None:
        """Follow its state."""
        socket: Any = self.manager.connect_iopub()
        try:
            while True:
                message = message_of("iopub", await socket.recv_multipart())
                self.heard.set()
                self.last_activity = datetime.now(UTC)
                self.state = message.content.get("execution_state", self.state)
        finally:
            socket.close()

    def close(self) -> None:
        """Leave it."""
        for bridge in self.bridges.values():
            bridge.close()
        if self.watching is not None:
            self.watching.cancel()


class Bridge:
    """A session's sockets to a kernel; they outlive its websocket."""

    def __init__(self, kernel: Kernel) -> None:
        manager = kernel.manager
        self._kernel = kernel
        self.session = manager.session
        self.websocket: Channels | None = None
        self._away: list[str | bytes] = []
        identity = os.urandom(8).hex().encode()
        self.sockets: dict[str, Any] = {
            name: getattr(manager, f"connect_{name}")(identity=identity) for name in CHANNELS
        }
        self._readers: list[asyncio.Task[None]] = []

    async def nudge(self) -> None:
        """Ask the kernel until it is seen that its output arrives, here and where its state is followed."""
        iopub, shell = self.sockets["iopub"], self.sockets["shell"]
        while True:
            request = self.session.msg("kernel_info_request")
            await shell.send_multipart(self.session.serialize(request))
            if await iopub.poll(NUDGE_SECONDS * 1000):
                with suppress(TimeoutError):
                    async with asyncio.timeout(NUDGE_SECONDS):
                        await self._kernel.heard.wait()
                    break
        await shell.recv_multipart()
        while await shell.poll(0):
            await shell.recv_multipart()
        while await iopub.poll(NUDGE_SECONDS * 100):
            await iopub.recv_multipart()

    def attach(self, websocket: Channels) -> None:
        """Send to a websocket; what was missed comes first."""
        self.websocket = websocket
        away, self._away = self._away, []
        for payload in away:
            websocket.send_payload(payload)
        if not self._readers:
            self._readers = [asyncio.create_task(self._read(name)) for name in CHANNELS]

    def detach(self, websocket: Channels) -> None:
        """Keep what comes from now on."""
        if self.websocket is websocket:
            self.websocket = None

    async def send(self, message: Message) -> None:
        """Sign a message, and send it to the kernel."""
        fields = {name: getattr(message, name) for name in DICT_PARTS}
        parts = [*self.session.serialize(fields), *message.buffers]
        await self.sockets[message.channel].send_multipart(parts)

    async def _read(self, channel: str) -> None:
        while True:
            message = message_of(channel, await self.sockets[channel].recv_multipart())
            payload = encode_legacy(message)
            if self.websocket is None:
                self._away.append(payload)
            else:
                self.websocket.send_payload(payload)

    def close(self) -> None:
        """Close everything."""
        for reader in self._readers:
            reader.cancel()
        for socket in self.sockets.values():
            socket.close(linger=0)
        if self.websocket is not None:
            self.websocket.close()


def message_of(channel: str, frames: list[bytes]) -> Message:
    """Read a message as a kernel sends it."""
    _signature, *parts = frames[frames.index(DELIMITER) + 1 :]
    header, parent, metadata, content = map(json.loads, parts[:4])
    return Message(channel, header, parent, metadata, content, tuple(parts[4:]))


class TokenMixin(RequestHandler):
    """Refuses who has no token, before anything else."""

    def prepare(self) -> None:
        """Answer with 401 without it."""
        token = Path(TOKEN_FILE).read_text()
        if self.request.headers.get("Authorization") != f"token {token}":
            self.send_error(401)

    def kernel(self, kernel_id: str) -> Kernel:
        """Return a kernel."""
        try:
            found: Kernel = self.settings["kernels"][kernel_id]
        except KeyError:
            raise HTTPError(404, f"Kernel does not exist: {kernel_id}") from None
        return found


class Rest(TokenMixin):
    """What all REST handlers have in common."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Write a reason and a message."""
        error = kwargs.get("exc_info", (None, None))[1]
        message = (error.log_message or "") if isinstance(error, HTTPError) else ""
        self.set_status(status_code)
        self.finish({"reason": responses[status_code], "message": message})


class KernelSpecs(Rest):
    """Kernel specs."""

    def get(self, name: str | None = None) -> None:
        """Return one of them, or all."""
        found = KernelSpecManager().get_all_specs()
        specs = {each: {"name": each, **spec} for each, spec in found.items()}
        for spec in specs.values():
            spec["resources"] = {}
            del spec["resource_dir"]
        if name is None:
            self.finish({"default": "python3", "kernelspecs": specs})
        elif name in specs:
            self.finish(specs[name])
        else:
            raise HTTPError(404, f"Kernel spec {name} not found")


class Kernels(Rest):
    """All kernels."""

    def get(self) -> None:
        """List them, as Enterprise Gateway does where ``list_kernels`` is on."""
        kernels: dict[str, Kernel] = self.settings["kernels"]
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps([each.model() for each in kernels.values()]))

    async def post(self) -> None:
        """Start one."""
        asked = json.loads(self.request.body)
        sent: dict[str, str] = asked.get("env", {})
        given = {name: value for name, value in sent.items() if name.startswith("KERNEL_")}
        managers: AsyncMultiKernelManager = self.settings["managers"]
        kernel_id = await managers.start_kernel(
            kernel_name=asked["name"], env={**os.environ, **given}
        )
        manager: Any = managers.get_kernel(kernel_id)
        kernel = Kernel(manager, asked["name"])
        kernel.watching = asyncio.create_task(kernel.watch())
        self.settings["kernels"][kernel_id] = kernel
        self.set_status(201)
        self.set_header("Location", f"/api/kernels/{kernel_id}")
        self.finish(kernel.model())


class OneKernel(Rest):
    """One kernel."""

    def get(self, kernel_id: str) -> None:
        """Describe it."""
        self.finish(self.kernel(kernel_id).model())

    async def delete(self, kernel_id: str) -> None:
        """Shut it down."""
        kernel = self.kernel(kernel_id)
        del self.settings["kernels"][kernel_id]
        kernel.close()
        await self.settings["managers"].shutdown_kernel(kernel_id)
        self.set_status(204)


class Action(Rest):
    """What is done to a kernel."""

    async def post(self, kernel_id: str, action: str) -> None:
        """Interrupt it, or restart it."""
        kernel = self.kernel(kernel_id)
        if action == "interrupt":
            await kernel.manager.interrupt_kernel()
            self.set_status(204)
        else:
            await kernel.manager.restart_kernel()
            self.finish(kernel.model())


class Channels(TokenMixin, WebSocketHandler):
    """A websocket to a kernel. No subprotocol is selected, whatever is offered."""

    _bridge: Bridge | None = None

    def check_origin(self, origin: str) -> bool:
        """Let in who has the token."""
        del origin
        return True

    async def get(self, kernel_id: str) -> None:  # type: ignore[override]
        """Shake hands, where there is such a kernel."""
        self._kernel = self.kernel(kernel_id)
        await super().get(kernel_id)

    async def open(self, kernel_id: str) -> None:  # type: ignore[override]
        """Connect, or come back."""
        del kernel_id
        self._requests: asyncio.Queue[Message] = asyncio.Queue()
        session = self.get_argument("session_id", "")
        bridge = self._kernel.bridges.get(session)
        if bridge is None:
            bridge = self._kernel.bridges[session] = Bridge(self._kernel)
            await bridge.nudge()
        if self.ws_connection is None:
            return  # it has gone meanwhile
        self._bridge = bridge
        bridge.attach(self)
        self._sending = asyncio.create_task(self._send_on(bridge))

    def on_message(self, payload: str | bytes) -> None:
        """Take a request."""
        self._requests.put_nowait(decode(payload, "legacy"))

    async def _send_on(self, bridge: Bridge) -> None:
        while True:
            await bridge.send(await self._requests.get())

    def send_payload(self, payload: str | bytes) -> None:
        """Write a message."""
        try:
            written = self.write_message(payload, binary=isinstance(payload, bytes))
        except WebSocketClosedError:
            return
        written.add_done_callback(lambda done: done.cancelled() or done.exception())

    def on_close(self) -> None:
        """Leave the session to come back."""
        if self._bridge is not None:
            self._bridge.detach(self)
            self._sending.cancel()


async def serve(port: int) -> None:
    """Serve until the process is to end; the token is in a file in the working directory."""
    managers = AsyncMultiKernelManager(
        connection_dir=os.environ["JUPYTER_RUNTIME_DIR"],
        kernel_manager_class="jupyter_client.manager.AsyncKernelManager",
        context=zmq.asyncio.Context(),
    )
    kernels: dict[str, Kernel] = {}
    routes: list[Any] = [
        (r"/api/kernelspecs", KernelSpecs),
        (r"/api/kernelspecs/([^/]+)", KernelSpecs),
        (r"/api/kernels", Kernels),
        (r"/api/kernels/([^/]+)", OneKernel),
        (r"/api/kernels/([^/]+)/(interrupt|restart)", Action),
        (r"/api/kernels/([^/]+)/channels", Channels),
    ]
    app = Application(routes, kernels=kernels, managers=managers)
    app.listen(port, "127.0.0.1")
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    await ending.wait()
    for kernel in kernels.values():
        kernel.close()
    await managers.shutdown_all(now=True)


def main() -> None:
    """Serve on the port that the command line names."""
    logging.basicConfig(level=logging.INFO)
    Path(os.environ["JUPYTER_RUNTIME_DIR"]).mkdir(parents=True, exist_ok=True)
    asyncio.run(serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
