"""What a running server says of its kernels' logs, of their clients and of relays, for its operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.gateway.managers import GatewayMappingKernelManager
from jupyter_server.utils import url_path_join
from tornado import web

from kernelwire import __version__
from kernelwire.connection.websocket import KernelwireWebsocketConnection
from kernelwire.gateway.connection import KernelwireGatewayConnection
from kernelwire.sockets.driver import driver, engine

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

__all__ = ["PATH", "LiveHandler", "add_handler", "describe"]

PATH = "/api/kernelwire"
"""Where it is asked."""


def describe(manager: Any) -> dict[str, Any]:
    """Describe what is going on: the engine, and each kernel's log with its clients.

    ``relays`` has each kernel's connections to a gateway. Where all kernels run there, there is
    neither a driver nor an engine, and none is asked for.
    """
    report: dict[str, Any] = {
        "version": __version__,
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
    return report | {
        "driver": "engine" if found.engine else "loop",
        "reason": found.reason,
        "turns": None if native is None else native.turns(),
        "kernels": kernels,
    }


def _relays() -> dict[str, list[dict[str, Any]]]:
    """Describe the connections to the gateway, by kernel."""
    relays: dict[str, list[dict[str, Any]]] = {}
    for connection in KernelwireGatewayConnection.open_connections():
        described = {"session": connection.session_id, **connection.describe()}
        relays.setdefault(connection.kernel_id, []).append(described)
    return relays


class LiveHandler(APIHandler):
    """Answers with :func:`describe`, to whoever may read about kernels."""

    auth_resource = "kernels"

    @web.authenticated
    @authorized
    def get(self) -> None:
        """Answer."""
        self.finish(describe(self.kernel_manager))


def add_handler(app: ServerApp) -> None:
    """Have a server answer."""
    path = url_path_join(app.web_app.settings["base_url"], PATH)
    app.web_app.add_handlers(".*$", [(path, LiveHandler)])
