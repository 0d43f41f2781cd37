"""Switching on: what a starting Jupyter server asks of the installed extension.

The server calls ``_link_jupyter_server_extension`` before it builds its managers, which is the one
moment at which a class can be put in place for all that follows. Other extensions may put theirs in
place before or after, so what is in use is reported by ``_start_jupyter_server_extension``, which
the server calls when all extensions are loaded.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from traitlets.config import Config
from traitlets.utils.importstring import import_item

from kernelwire._config import check_at_start, configured
from kernelwire._switch import OFF_REASON, is_switched_off
from kernelwire.in_use import (
    CONNECTION_TRAIT,
    MANAGER_TRAIT,
    classes_in_use,
    extension_of,
    is_kernelwires,
    is_of_package,
    ours_in_place,
    qualified_name,
    report,
    set_by,
)

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

CHOICES = {
    CONNECTION_TRAIT: "kernelwire.connection.websocket.KernelwireWebsocketConnection",
    MANAGER_TRAIT: "kernelwire.kernels.manager.KernelwireMappingKernelManager",
}
"""Which of the server's classes are replaced, by trait, and by what."""

STAND_INS = ("jupyter_server_documents.websocket_connection.KernelWebsocketConnection",)
"""Classes of others in whose place kernelwire's connection was tested: what ``stand_in_for`` may name."""

GATEWAY_CHOICES = {
    CONNECTION_TRAIT: "kernelwire.gateway.connection.KernelwireGatewayConnection",
}
"""The same where kernels run on a gateway, which has their manager."""

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
    replacement: str | None
    """kernelwire's class in its place; ``None`` where it stays."""
    reason: str
    stands_in: bool = False
    """Whether the replacement takes the place of a class that somebody has chosen."""

    @property
    def replace(self) -> bool:
        """Whether kernelwire puts its own class in place."""
        return self.replacement is not None


_choices: WeakKeyDictionary[ServerApp, dict[str, Choice]] = WeakKeyDictionary()
"""What was decided when the extension was linked to a server, by trait."""


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Tell the server which module to link and load."""
    return [{"module": "kernelwire"}]


def _link_jupyter_server_extension(app: ServerApp) -> None:
    """Put kernelwire's classes in place where the user has upstream's defaults."""
    choices = {trait: choose(app, trait) for trait in CHOICES}
    try:
        classes = load(choices)
        asked = _asked_to_stand_in(app)
    except Exception as error:
        app.log.warning("kernelwire is off: it could not be loaded (%s)", error)
        return
    check_at_start(app, asked | classes)
    for trait, cls in classes.items():
        setattr(app, trait, cls)
    _choices[app] = choices
    if not is_switched_off():
        _warn_of_shortcomings(app)


def _load_jupyter_server_extension(app: ServerApp) -> None:
    """Have the server tell its operator what goes on; the rest was done when this was linked."""
    if app in _choices and not is_switched_off():
        from kernelwire import events, live, metrics  # noqa: PLC0415 (may fail where linking has)

        live.add_handlers(app)
        metrics.register(app)
        events.register(app)


async def _start_jupyter_server_extension(app: ServerApp) -> None:
    """Log which classes are in use, now that every extension has been loaded."""
    if app in _choices and is_switched_off():
        _report_switched_off(app)
    elif app in _choices:
        app.log.info("kernelwire is %s", report(app, _choices[app]))


def _report_switched_off(app: ServerApp) -> None:
    """Log that kernelwire is off, and which subclasses of its classes the server uses nevertheless."""
    kept = [qualified_name(cls) for cls in classes_in_use(app).values() if is_kernelwires(cls)]
    if kept:
        names = " and ".join(kept)
        app.log.warning("kernelwire: %s, but %s was chosen and is used", OFF_REASON, names)
    else:
        app.log.info("kernelwire is off: %s", OFF_REASON)


def load(choices: dict[str, Choice]) -> dict[str, type]:
    """Import the classes to be put in place, and what they need, natively or not.

    Whatever is wrong with the installation is raised here, before anything has been changed.
    Where kernelwire is switched off, nothing of it is imported.
    """
    classes = {
        trait: import_item(one.replacement)
        for trait, one in choices.items()
        if one.replacement is not None
    }
    if not is_switched_off():
        from kernelwire.sockets.drain import drain  # noqa: PLC0415 (may fail, and only here is it handled)

        drain()
    return classes


def choose(app: ServerApp, trait: str) -> Choice:
    """Decide on one of the classes of a server that is being set up.

    The trait itself must not be read yet: its default asks for attributes that the server sets
    later. Whether it *has* a value shows all the same whether anybody chose one: the configuration,
    or an extension that was linked before. A class from the package of such an extension counts as
    set by it, unless it was chosen on the command line: an extension changes the configuration in
    the way a file does.

    A class that ``stand_in_for`` names gives way, whoever has chosen it.

    Where kernelwire is switched off, the server's default takes the place of kernelwire's own classes,
    also of those that were chosen by name. A subclass of one is left where it is.
    """
    gateway = _has_gateway(app)
    default = _DEFAULTS[trait][gateway]
    if app.trait_has_value(trait):
        chosen: type = getattr(app, trait)
        if is_switched_off() and is_of_package(chosen):
            return Choice(qualified_name(chosen), default, OFF_REASON)
        if trait == CONNECTION_TRAIT and not gateway and _stands_in_for(app, chosen):
            name = qualified_name(chosen)
            return Choice(name, CHOICES[trait], f"it stands in for {name}", stands_in=True)
        return Choice(qualified_name(chosen), None, _chosen_by(app, trait, chosen))
    return _instead_of(default, trait, gateway=gateway)


def _instead_of(default: str, trait: str, *, gateway: bool) -> Choice:
    """Decide on a class that nobody has chosen, of a server with or without a gateway."""
    if is_switched_off():
        return Choice(default, None, OFF_REASON)
    if gateway and trait not in GATEWAY_CHOICES:
        return Choice(default, None, "kernels run on a gateway")
    if gateway:
        return Choice(default, GATEWAY_CHOICES[trait], "it is the server's default with a gateway")
    if obstacle := _obstacle(trait):
        return Choice(default, None, obstacle)
    return Choice(default, CHOICES[trait], "it is the server's default")


def _stands_in_for(app: ServerApp, chosen: type) -> bool:
    """Whether the configuration has kernelwire's connection serve in the place of a class."""
    if not _is_stand_in_configured(app) or _obstacle(CONNECTION_TRAIT):
        return False
    try:
        names = configured(import_item(CHOICES[CONNECTION_TRAIT]), app.config, "stand_in_for")
    except Exception:
        return False  # as in `_obstacle`: it is reported where the class is needed
    return qualified_name(chosen) in names


def _asked_to_stand_in(app: ServerApp) -> dict[str, type]:
    """Return kernelwire's connection where ``stand_in_for`` is configured: it may be wrong."""
    asked = _is_stand_in_configured(app)
    return {CONNECTION_TRAIT: import_item(CHOICES[CONNECTION_TRAIT])} if asked else {}


def _is_stand_in_configured(app: ServerApp) -> bool:
    """Whether ``stand_in_for`` is anywhere: elsewhere, the class that has it need not be loaded."""
    sections = [section for section in app.config.values() if isinstance(section, Config)]
    return not is_switched_off() and any("stand_in_for" in section for section in sections)


def decision(app: ServerApp, trait: str) -> Choice | None:
    """Return what was decided when the extension was linked; ``None`` where it was not."""
    return _choices.get(app, {}).get(trait)


def _chosen_by(app: ServerApp, trait: str, chosen: type) -> str:
    """Say who has chosen a class, as far as that can be told.

    One that is not in the configuration, and of no linked extension's package, may come from any
    extension that was linked before, or from the program that starts the server.
    """
    by_configuration = "it was chosen by configuration"
    if _on_command_line(app, trait):
        return by_configuration
    if extension := extension_of(app, chosen):
        return set_by(extension)
    if any(app.extension_manager.linked_extensions.values()) and not _in_config(app, trait, chosen):
        return "it was set before kernelwire was linked, by whom is not known"
    return by_configuration


def _in_config(app: ServerApp, trait: str, chosen: type) -> bool:
    """Whether a class is what the configuration has for a trait of the server."""
    sections = (app.config[cls.__name__] for cls in type(app).mro() if cls.__name__ in app.config)
    values = (section[trait] for section in sections if trait in section)
    return any((import_item(each) if isinstance(each, str) else each) is chosen for each in values)


def _obstacle(trait: str) -> str:
    """Say what the class would need and the installed packages lack; empty where nothing is."""
    try:
        from kernelwire._self_test import obstacle_to  # noqa: PLC0415 (imports what it tests)

        return obstacle_to(trait)
    except Exception:
        return ""  # the class cannot be imported either, and that is reported where it is tried


def _warn_of_shortcomings(app: ServerApp) -> None:
    """Log what the self-test has turned off."""
    from kernelwire._self_test import warn_of_shortcomings  # noqa: PLC0415 (imports what it tests)

    warn_of_shortcomings(app.log, ours_in_place(app))


def _has_gateway(app: ServerApp) -> bool:
    """Whether ``GatewayClient``, which is made later, will find an address of a gateway."""
    config = app.config.GatewayClient if "GatewayClient" in app.config else {}
    return bool(config["url"] if "url" in config else os.environ.get("JUPYTER_GATEWAY_URL"))


def _on_command_line(app: ServerApp, trait: str) -> bool:
    """Whether a class was chosen on the command line."""
    return any(
        trait in app.cli_config[cls.__name__]
        for cls in type(app).mro()
        if cls.__name__ in app.cli_config
    )
