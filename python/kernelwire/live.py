"""What a running server says of its kernels' logs, of their clients and of relays, for its operator.

There is one description: ``jupyter kernelwire status --live`` asks for it, and the page shows it.
"""

from __future__ import annotations

import re
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.gateway.managers import GatewayMappingKernelManager
from jupyter_server.utils import url_path_join
from tornado import web

from kernelwire import __version__
from kernelwire.connection.websocket import KernelwireWebsocketConnection
from kernelwire.gateway.connection import KernelwireGatewayConnection
from kernelwire.sockets.driver import driver, engine

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

__all__ = ["PAGE", "PATH", "LiveHandler", "PageHandler", "add_handlers", "describe"]

PAGE = "/kernelwire/"
"""Where the page is."""

PATH = f"{PAGE}api/stats"
"""Where it is asked."""

_PAGE = Path(__file__).parent / "page"
_FILES = {"index.html": "text/html", "live.css": "text/css", "live.js": "text/javascript"}
"""The page and what belongs to it, and what these are."""


def describe(manager: Any) -> dict[str, Any]:
    """Describe what is going on: the engine, and each kernel's log with its clients.

    ``time`` is in seconds, of a clock by which rates can be told. ``relays`` has each kernel's
    connections to a gateway. Where all kernels run there, there is neither a driver nor an engine,
    and none is asked for.
    """
    report: dict[str, Any] = {
        "version": __version__,
        "time": monotonic(),
        "driver": None,
        "reason": "kernels run on a gateway",
        "turns": None,
        "kernels": {},
        "relays": _relays(),  # a manager of others may have kernels here and there
    }
    if isinstance(manager, GatewayMappingKernelManager):
        return report
    found, native = driver(), engine()
    kernels: dict[str, Any] = getattr(manager, "describe_logs", dict)()
    for connection in KernelwireWebsocketConnection.open_connections():
        described = connection.describe()
        if described is not None:
            kernel = kernels.setdefault(connection.kernel_id, {})
            kernel.setdefault("clients", {})[connection.session_key] = described
    for kernel_id, described in kernels.items():
        described.update(_kernel(manager, kernel_id))
    return report | {
        "driver": "engine" if found.engine else "loop",
        "reason": found.reason,
        "turns": None if native is None else native.turns(),
        "kernels": kernels,
    }


def _kernel(manager: Any, kernel_id: str) -> dict[str, Any]:
    """Say what a kernel is called, and in which state it is; nothing where it is gone."""
    try:
        kernel = manager.get_kernel(kernel_id)
    except Exception:
        return {}
    state = getattr(kernel, "execution_state", None)
    return {"name": getattr(kernel, "kernel_name", ""), "state": state or "unknown"}


def _relays() -> dict[str, list[dict[str, Any]]]:
    """Describe the connections to the gateway, by kernel."""
    relays: dict[str, list[dict[str, Any]]] = {}
    for connection in KernelwireGatewayConnection.open_connections():
        described = {"session": connection.session_id, **connection.describe()}
        relays.setdefault(connection.kernel_id, []).append(described)
    return relays


class LiveHandler(APIHandler):
    """Answers with :func:`describe`, to whoever may read about kernels.

    As with all of the server's REST, ``no_track_activity`` keeps that from being activity.
    """

    auth_resource = "kernels"

    @web.authenticated
    @authorized
    def get(self) -> None:
        """Answer."""
        self.finish(describe(self.kernel_manager))


class PageHandler(JupyterHandler):
    """The page that shows this, as it changes, and what belongs to it."""

    auth_resource = "kernels"

    @property
    def content_security_policy(self) -> str:
        """Allow what the page needs, and nothing from elsewhere."""
        own = "script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'"
        return f"default-src 'none'; {own}; base-uri 'none'; {super().content_security_policy}"

    @web.authenticated
    @authorized
    def get(self, name: str) -> None:
        """Answer with the page, or one of its files."""
        name = name or "index.html"
        self.set_header("Content-Type", f"{_FILES[name]}; charset=UTF-8")
        self.set_header("Cache-Control", "no-cache")
        self.finish((_PAGE / name).read_bytes())


class SlashHandler(JupyterHandler):
    """Sends on to the page whoever asks for it without its last slash."""

    @web.authenticated
    def get(self) -> None:
        """Answer."""
        self.redirect(url_path_join(self.base_url, PAGE))


def add_handlers(app: ServerApp) -> None:
    """Have a server answer."""
    base = app.web_app.settings["base_url"]
    files = "|".join(map(re.escape, _FILES))
    app.web_app.add_handlers(
        ".*$",
        [
            (url_path_join(base, PATH), LiveHandler),
            (url_path_join(base, PAGE.rstrip("/")), SlashHandler),
            (url_path_join(base, PAGE, f"({files}|)"), PageHandler),
        ],
    )
