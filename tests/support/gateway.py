"""A Kernel Gateway in its own process, the road to it, and servers whose kernels run there."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from support import fake_kernel
from support.server import (
    START_SECONDS,
    Implementation,
    free_port,
    make_certificate,
    process_environment,
)
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import JsonConfig

MANAGER = "jupyter_server.gateway.managers.GatewayMappingKernelManager"
RELAYS = {
    "stock": Implementation(
        "stock",
        {
            "kernel_websocket_connection_class": (
                "jupyter_server.gateway.connections.GatewayWebSocketConnection"
            ),
            "kernel_manager_class": MANAGER,
        },
    ),
    "kernelwire": Implementation(
        "kernelwire",
        {
            "kernel_websocket_connection_class": "kernelwire.KernelwireGatewayConnection",
            "kernel_manager_class": MANAGER,
        },
    ),
}
"""The classes of a server whose kernels run on a gateway."""

CHUNK_BYTES = 1 << 16

PATH = {"PYTHONPATH": str(Path(__file__).parents[1])}
"""Has a gateway find what is in this folder."""


class Gateway:
    """A Kernel Gateway from PyPI, with the kernels of the tests."""

    def __init__(
        self,
        home: Path,
        config: JsonConfig | None = None,
        *,
        tls: bool = False,
        port: int = 0,
        token: str = "",
    ) -> None:
        self.home = home
        self.port = port or free_port()
        self.token = token or secrets.token_hex(8)
        self.log_path = home / "gateway.log"
        self._tls = tls
        fake_kernel.install(home / "data")
        command = self.command(config or {})
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=home,
                env=process_environment(home, Implementation("gateway", {}, PATH)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(self._answers, what="the gateway", timeout=START_SECONDS)
        except BaseException:
            self.kill()
            raise

    def command(self, config: JsonConfig) -> list[str]:
        """Return what to run, with a configuration beside what tests need."""
        app = {"ip": "127.0.0.1", "port": self.port, "port_retries": 0, "auth_token": self.token}
        if self._tls:
            make_certificate(self.certificate, self.home / "key.pem")
            app |= {"certfile": str(self.certificate), "keyfile": str(self.home / "key.pem")}
        settings: dict[str, dict[str, Any]] = {
            "KernelGatewayApp": app,
            "JupyterWebsocketPersonality": {"list_kernels": True},
        }
        for section, values in config.items():
            settings.setdefault(section, {}).update(values)
        file = self.home / "gateway.json"
        file.write_text(json.dumps(settings))
        return [sys.executable, "-m", "kernel_gateway", f"--config={file}"]

    @property
    def certificate(self) -> Path:
        """The file with the certificate to be trusted."""
        return self.home / "cert.pem"

    def log(self) -> str:
        """What the gateway has logged."""
        return self.log_path.read_text(errors="replace")

    def stop(self) -> None:
        """End it, and its kernels."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
        self.kill()

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """Stop the process: it keeps its connections, and says nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Have the process go on."""
        self.process.send_signal(signal.SIGCONT)

    def client_config(self, port: int | None = None) -> dict[str, Any]:
        """The traits of ``GatewayClient`` for a server that uses this gateway, by a port."""
        scheme = "https" if self._tls else "http"
        return {
            "url": f"{scheme}://127.0.0.1:{port or self.port}",
            "auth_token": self.token,
            "gateway_retry_interval": 0.05,
            "validate_cert": not self._tls,
        }

    def kernels(self) -> set[str]:
        """The kernels that it has."""
        return {each["id"] for each in self._get("/api/kernels")}

    def state_of(self, kernel_id: str) -> str:
        """What a kernel does, as the gateway's watcher has it."""
        return str(self._get(f"/api/kernels/{kernel_id}")["execution_state"])

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"the gateway did not start:\n{self.log()}")
        try:
            return bool(self._get("/api/kernelspecs"))
        except (URLError, OSError):
            return False

    def _get(self, path: str) -> Any:
        scheme = "https" if self._tls else "http"
        request = Request(
            f"{scheme}://127.0.0.1:{self.port}{path}",
            headers={"Authorization": f"token {self.token}"},
        )
        with urlopen(request, timeout=5, context=_context(self._tls)) as answer:
            return json.load(answer)


def _context(tls: bool) -> Any:
    if not tls:
        return None
    import ssl  # noqa: PLC0415 (of use here only)

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Road:
    """A TCP proxy to a gateway: all that goes there passes, until it is cut or blocked."""

    def __init__(self, port: int) -> None:
        """Lead to a port of this machine; ``port`` of this object is where it begins."""
        self._to = port
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self.sent_up = 0
        """Bytes that went to the gateway."""
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait(15)

    def cut(self) -> None:
        """Break every connection, and let none through any more."""
        self._call(self._set_cut, True)

    def mend(self) -> None:
        """Let connections through again."""
        self._call(self._set_cut, False)

    def break_once(self) -> None:
        """Break every connection; new ones get through."""
        self._call(self._abort)

    def block(self) -> None:
        """Move nothing, in either direction; nobody is told."""
        self._call(self._flowing.clear)

    def unblock(self) -> None:
        """Go on where :meth:`block` has stopped."""
        self._call(self._flowing.set)

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._writers) // 2

    def end(self) -> None:
        """Break everything for good."""
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(15)

    def _call(self, function: Callable[..., Any], *args: Any) -> None:
        async def call() -> None:
            function(*args)

        asyncio.run_coroutine_threadsafe(call(), self._loop).result(15)

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._flowing = asyncio.Event()
        self._flowing.set()
        server = self._loop.run_until_complete(
            asyncio.start_server(self._accept, "127.0.0.1", 0, limit=CHUNK_BYTES)
        )
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0))  # transports close in a turn of their own
        self._loop.close()

    def _set_cut(self, is_cut: bool) -> None:
        self._is_cut = is_cut
        if is_cut:
            self._abort()

    def _abort(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        await self._flowing.wait()
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to, limit=CHUNK_BYTES)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, back}
        self._writers |= both
        up = asyncio.ensure_future(self._pump(reader, back, up=True))
        down = asyncio.ensure_future(self._pump(there, writer, up=False))
        await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
        for each in both:
            each.transport.abort()
        self._writers -= both

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._flowing.wait()
                writer.write(data)
                if up:
                    self.sent_up += len(data)
                await writer.drain()
