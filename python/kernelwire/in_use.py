"""Which classes a server uses, and which extension set one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_server.serverapp import ServerApp

    from kernelwire.extension import Choice

CONNECTION_TRAIT = "kernel_websocket_connection_class"

MANAGER_TRAIT = "kernel_manager_class"

_PARTS = {CONNECTION_TRAIT: "connections", MANAGER_TRAIT: "the kernel manager"}


def report(app: ServerApp, choices: Mapping[str, Choice]) -> str:
    """Describe whether a loaded server uses kernelwire's classes, and why where it does not.

    Args:
        app: The server, with all its extensions loaded.
        choices: What was decided when kernelwire was linked, by trait.
    """
    classes = classes_in_use(app)
    ours = [trait for trait, cls in classes.items() if is_kernelwires(cls)]
    others = [
        _why_not(app, cls, choices[trait]) for trait, cls in classes.items() if trait not in ours
    ]
    if not ours:
        return "; ".join(["off", *others])
    if CONNECTION_TRAIT in ours and choices[CONNECTION_TRAIT].stands_in:
        others.append(choices[CONNECTION_TRAIT].reason)
    scope = f" for {_PARTS[ours[0]]} only" if len(ours) < len(classes) else ""
    if relays(classes[CONNECTION_TRAIT]):
        return "; ".join([f"on{scope}, relaying what a gateway sends", *others])
    return "; ".join([f"on{scope}, receiving {_how_received()}", *others])


def report_of_manager(connections: type) -> str:
    """Describe what is in use where the manager is kernelwire's, and no extensions are loaded.

    Args:
        connections: The class of the connections.
    """
    if is_kernelwires(connections):
        return f"on, receiving {_how_received()}"
    name = qualified_name(connections)
    return f"on for {_PARTS[MANAGER_TRAIT]} only, receiving {_how_received()}; {name} is used"


def _how_received() -> str:
    from kernelwire.sockets.drain import drain  # noqa: PLC0415 (cannot be imported in every installation)

    receiving = drain()
    return "natively" if receiving.native else f"through pyzmq ({receiving.reason})"


def _why_not(app: ServerApp, cls: type, choice: Choice) -> str:
    """Return why a class that is not kernelwire's is in use."""
    name = qualified_name(cls)
    if not choice.replace and name == choice.present:
        return f"{name} is kept: {choice.reason}"
    extension = extension_of(app, cls)
    if extension is None:
        return f"{name} is used: it was set after kernelwire was linked, by whom is not known"
    return f"{name} is used: {set_by(extension)}"


def set_by(extension: str) -> str:
    """Return the reason for a class that an extension has set."""
    return f"it was set by the extension {extension}"


def qualified_name(cls: Any) -> str:
    """Return the name of a class with its module; of what is called like one, that of its kind."""
    named = cls if hasattr(cls, "__qualname__") else type(cls)
    return f"{named.__module__}.{named.__qualname__}"


def classes_in_use(app: ServerApp) -> dict[str, type]:
    """Return the classes that the handlers of a loaded server work with, by trait.

    They come from the settings of the web application, which an extension may have changed when it
    was loaded; the traits are not looked at again after that. An extension may also have put
    something there that is called as a class is, such as a function.
    """
    settings: dict[str, Any] = app.web_app.settings
    return {
        CONNECTION_TRAIT: settings[CONNECTION_TRAIT],
        MANAGER_TRAIT: type(settings["kernel_manager"]),
    }


def ours_in_place(app: ServerApp) -> dict[str, str]:
    """Return the names of kernelwire's classes that a server has so far, by trait."""
    chosen = {trait: getattr(app, trait) for trait in _PARTS if app.trait_has_value(trait)}
    return {trait: qualified_name(cls) for trait, cls in chosen.items() if is_kernelwires(cls)}


def is_kernelwires(cls: type) -> bool:
    """Return whether a class is one of kernelwire's, or a subclass of one."""
    return any(map(is_of_package, getattr(cls, "__mro__", ())))


def is_of_package(cls: type) -> bool:
    """Return whether a class is one of kernelwire's, and not a subclass of somebody else's."""
    return getattr(cls, "__module__", "").partition(".")[0] == "kernelwire"


def relays(cls: type) -> bool:
    """Return whether a class is that of kernelwire's connections to a gateway, or a subclass."""
    bases = getattr(cls, "__mro__", ())
    return any(base.__module__.startswith("kernelwire.gateway.") for base in bases)


def extension_of(app: ServerApp, cls: type) -> str | None:
    """Return the linked extension whose package has the class; ``None`` where there is none.

    Nothing records which extension set a trait or a setting, so the package decides.
    """
    package = cls.__module__.partition(".")[0]
    manager = app.extension_manager
    for name, extension in manager.sorted_extensions.items():
        modules = [name, *(point.module_name for point in extension.extension_points.values())]
        linked = manager.linked_extensions.get(name)
        if linked and package in {module.partition(".")[0] for module in modules}:
            return str(name)
    return None
