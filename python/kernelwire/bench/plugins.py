"""What the benchmark loads *into* the server: small classes named by dotted path in its config."""

from __future__ import annotations

import ctypes
import os
import time
from typing import TYPE_CHECKING

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.utils import url_path_join
from tornado import web
from traitlets.utils.importstring import import_item

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from jupyter_server.serverapp import ServerApp

STOCK_MANAGER = "jupyter_server.services.kernels.kernelmanager.AsyncMappingKernelManager"
MANAGER_VARIABLE = "KERNELWIRE_BENCH_MANAGER"
"""Environment variable with the dotted path of the manager that `QuietManager` silences."""


class NoDelayConnection(ZMQChannelsWebsocketConnection):
    """Stock with Nagle's algorithm off: separates that one effect from everything else."""

    def connect(self) -> asyncio.Future[None] | None:  # type: ignore[override]  # as stock does
        """Set TCP_NODELAY, then connect as stock does."""
        self.websocket_handler.set_nodelay(True)
        return super().connect()


class QuietManager(import_item(os.environ.get(MANAGER_VARIABLE, STOCK_MANAGER))):  # type: ignore[misc]
    """The configured manager without its activity watcher.

    Shows the websocket path alone. A kernel counts as idle from the start, since nobody is
    watching for its first status, and a connecting websocket would wait for that for ever.
    """

    def start_watching_activity(self, kernel_id: str) -> None:
        """Leave the kernel in the state a watcher would report after start-up."""
        kernel = self._kernels[kernel_id]
        kernel.reason = ""
        kernel.execution_state = "idle"


class IdentityHandler(JupyterHandler):
    """Says which classes really serve, so that no contender runs under another's name."""

    @web.authenticated
    def get(self) -> None:
        """Dotted paths of the connection class and of the manager class."""
        classes = {
            "connection": self.settings["kernel_websocket_connection_class"],
            "manager": type(self.kernel_manager),
        }
        self.finish({what: dotted(cls) for what, cls in classes.items()})


def spin(seconds: float) -> None:
    """Run Python all the time; other threads get the GIL when they have waited for it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def hold_gil(seconds: float) -> None:
    """Sleep in C without giving the GIL away."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


STALLS: dict[str, Callable[[float], object]] = {
    "sleep": time.sleep,
    "spin": spin,
    "hold-gil": hold_gil,
}
"""Ways to block the event loop."""


class StallHandler(JupyterHandler):
    """Blocks the event loop, as a careless extension or a slow disk does."""

    @web.authenticated
    def get(self) -> None:
        """Go on for ``seconds`` without yielding, and say from when to when that was."""
        stall = STALLS[self.get_argument("how", "sleep")]
        started_ns = time.monotonic_ns()
        stall(float(self.get_argument("seconds")))
        self.finish({"started_ns": started_ns, "finished_ns": time.monotonic_ns()})


def dotted(cls: type) -> str:
    """``module.Class``, as the server's config would name it."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "kernelwire.bench.plugins"}]


def _load_jupyter_server_extension(app: ServerApp) -> None:
    base = app.web_app.settings["base_url"]
    handlers = [("identity", IdentityHandler), ("stall", StallHandler)]
    app.web_app.add_handlers(  # type: ignore[no-untyped-call]
        ".*$", [(url_path_join(base, "bench", name), handler) for name, handler in handlers]
    )
