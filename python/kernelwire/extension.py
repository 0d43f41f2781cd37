"""Switching on: what a starting Jupyter server asks of the installed extension.

The server calls ``_link_jupyter_server_extension`` before it builds its managers, which is the one
moment at which a class can be put in place for all that follows.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from traitlets.utils.importstring import import_item

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

CONNECTION_TRAIT = "kernel_websocket_connection_class"

MANAGER_TRAIT = "kernel_manager_class"

CHOICES = {
    CONNECTION_TRAIT: "kernelwire.connection.KernelwireWebsocketConnection",
    MANAGER_TRAIT: "kernelwire.kernels.KernelwireMappingKernelManager",
}
"""Which of the server's classes are replaced, by trait, and by what."""

_DEFAULTS = {
    CONNECTION_TRAIT: {
        False: "jupyter_server.services.kernels.connection.channels.ZMQChannelsWebsocketConnection",
        True: "jupyter_server.gateway.connections.GatewayWebSocketConnection",
    },
    MANAGER_TRAIT: {
        False: "jupyter_server.services.kernels.kernelmanager.AsyncMappingKernelManager",
        True: "jupyter_server.gateway.managers.GatewayMappingKernelManager",
    },
}
"""What the server has otherwise: without and with a gateway."""


class Choice(NamedTuple):
    """What becomes of one of the server's classes, and why."""

    present: str
    """The class the server has without kernelwire."""
    replace: bool
    reason: str


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Tell the server which module to link and load."""
    return [{"module": "kernelwire"}]


def _load_jupyter_server_extension(_app: ServerApp) -> None:
    """Do nothing: all is done when the extension is linked, before the managers are built."""


def _link_jupyter_server_extension(app: ServerApp) -> None:
    """Put kernelwire's classes in place where the user has the stock defaults."""
    choices = {trait: choose(app, trait) for trait in CHOICES}
    try:
        classes = {
            trait: import_item(CHOICES[trait]) for trait, one in choices.items() if one.replace
        }
        from kernelwire._drain import drain  # noqa: PLC0415 (may fail, and only here is it handled)
    except Exception as error:
        app.log.warning("kernelwire is off: it could not be loaded (%s)", error)
        return
    for trait, cls in classes.items():
        setattr(app, trait, cls)
    receiving = drain()
    how = "natively" if receiving.native else f"through pyzmq ({receiving.reason})"
    kept = [f"{one.present} is kept: {one.reason}" for one in choices.values() if not one.replace]
    state = f"on, receiving {how}" if classes else "off"
    app.log.info("kernelwire is %s", "; ".join([state, *kept]))


def choose(app: ServerApp, trait: str) -> Choice:
    """Decide on one of the classes of a server that is being set up.

    The trait itself must not be read yet: its default asks for attributes that the server sets
    later. Whether it *has* a value tells all the same whether anybody chose one.
    """
    if app.trait_has_value(trait):
        chosen: Any = getattr(app, trait)
        name = f"{chosen.__module__}.{chosen.__qualname__}"
        return Choice(name, replace=False, reason="it was chosen by configuration")
    gateway = _has_gateway(app)
    default = _DEFAULTS[trait][gateway]
    if gateway:
        return Choice(default, replace=False, reason="kernels run on a gateway")
    return Choice(default, replace=True, reason="it is the server's default")


def _has_gateway(app: ServerApp) -> bool:
    """Whether ``GatewayClient``, which is made later, will find an address of a gateway."""
    config = app.config.GatewayClient if "GatewayClient" in app.config else {}
    return bool(config["url"] if "url" in config else os.environ.get("JUPYTER_GATEWAY_URL"))
