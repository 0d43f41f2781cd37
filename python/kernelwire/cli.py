"""``jupyter kernelwire``: what kernelwire does in this environment."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, NamedTuple

import zmq
from jupyter_core.application import JupyterApp
from traitlets import Dict, Unicode
from traitlets.utils.importstring import import_item

from kernelwire import __version__
from kernelwire.extension import CHOICES, GATEWAY_CHOICES, Choice, choose
from kernelwire.in_use import (
    CONNECTION_TRAIT,
    is_kernelwires,
    ours_in_place,
    qualified_name,
    set_by,
)

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

LIVE = "--live"

APP, KERNEL_GATEWAY = "--app", "kernel-gateway"

PACKAGES = ("kernelwire", "jupyter_server", "jupyter_client", "pyzmq", "tornado")


class StatusApp(JupyterApp):
    """Says which classes a server started now would use, and why."""

    name = "jupyter-kernelwire-status"
    version = __version__
    description = Unicode(
        "Say which classes a Jupyter server started now would use and why, how kernel messages are"
        " received, and which versions are installed. Options of `jupyter server` are understood."
        " The exit status is 0 where kernelwire is on, and 1 where it is off or no server starts."
        " With --app kernel-gateway, say which classes a Kernel Gateway would use; options of"
        " `jupyter kernelgateway` are understood then."
        " With --live, say instead what goes on in the servers of this user that are running."
    )
    flags: Any = Dict(
        {
            "live": (
                {},
                "Say what goes on in the running servers: kernels, clients, what they wait for.",
            )
        }
    )
    aliases: Any = Dict({})
    argv: list[str]
    live = False
    """Whether to ask running servers."""
    of_gateway = False
    """Whether a Kernel Gateway is meant."""

    def parse_command_line(self, argv: list[str] | None = None) -> None:
        """Keep the arguments for the server whose configuration is looked at."""
        self.argv, app = without_app(argv or [])
        self.of_gateway = app == KERNEL_GATEWAY
        if app not in ("", KERNEL_GATEWAY):
            self.log.critical("%s is %r, it can be %r", APP, app, KERNEL_GATEWAY)
            self.exit(2)
        self.live = LIVE in self.argv
        self.argv = [each for each in self.argv if each != LIVE]
        if {"-h", "--help", "--help-all", "--version"} & set(self.argv):
            super().parse_command_line(argv)

    def start(self) -> None:
        """Print the report and exit."""
        self.log_level = "ERROR"  # extensions log through it, such as that one is slow to import
        if self.live:
            from kernelwire.cli_live import report_of_running  # noqa: PLC0415 (of no use otherwise)

            live, asked = report_of_running()
            print("\n".join(live))  # noqa: T201 (this is what it is for)
            sys.exit(0 if asked else 1)
        if self.of_gateway:
            from kernelwire.cli_gateway import report as report_of_gateway  # noqa: PLC0415 (as above)

            said, on = report_of_gateway(self.argv)
            said += [*receiving(loading_trouble()), *versions(*PACKAGES, "jupyter_kernel_gateway")]
            print("\n".join(said))  # noqa: T201 (this is what it is for)
            sys.exit(0 if on else 1)
        app = configured_server(self.argv)
        trouble = loading_trouble()
        configured = {trait: choose(app, trait) for trait in CHOICES}
        linked = link_extensions(app)
        lines: list[str] = []
        for trait, choice in configured.items():
            cls = present(app, trait)
            name = qualified_name(cls) if cls else choice.present
            reason = reason_for(choice, linked, linked.setters.get(trait), trouble)
            lines += [trait, f"    {name}", f"    because {reason}"]
        lines += [*unseen(linked), *receiving(trouble), *self_test(app, trouble)]
        lines += versions(*PACKAGES)
        print("\n".join(lines))  # noqa: T201 (this is what it is for)
        connection = present(app, CONNECTION_TRAIT)
        on = connection is not None and is_kernelwires(connection)
        sys.exit(0 if on and not linked.ending else 1)


def configured_server(argv: list[str]) -> ServerApp:
    """Configure a server as one started now would be, up to where extensions are linked.

    Nothing is bound, written or started. The steps are those of ``ServerApp.initialize``.
    """
    from jupyter_server.extension.manager import ExtensionManager  # noqa: PLC0415 (as below)
    from jupyter_server.serverapp import ServerApp  # noqa: PLC0415 (takes half a second)

    # Without a secret, one is made and written by the first that reads it, as notebook_shim does.
    app = ServerApp(log_level="ERROR", cookie_secret=b"none is needed")
    JupyterApp.initialize(app, argv)
    app.init_ioloop()
    app.find_server_extensions()
    app.init_event_logger()
    app.extension_manager = ExtensionManager(log=app.log, serverapp=app)
    return app


class Linked(NamedTuple):
    """What became of the enabled extensions."""

    setters: dict[str, str]
    """The extension that set a class last, by trait."""
    names: list[str]
    """Those that were linked."""
    failed: list[str]
    """Those that could not be linked, which a server goes on without."""
    ending: list[str]
    """Those that end a server, as kernelwire does where a trait of its classes is wrong."""


def link_extensions(app: ServerApp) -> Linked:
    """Link the enabled extensions, in the server's order, and watch which of them sets a class.

    They are not loaded: that takes a web application and managers, writes files, and may start
    what an extension runs in the background.
    """
    manager = app.extension_manager
    linked = Linked({}, [], [], [])
    for name in sorted(name for name, enabled in app.jpserver_extensions.items() if enabled):
        before = {trait: present(app, trait) for trait in CHOICES}
        unlinked = linked.failed
        try:
            with suppress(Exception):  # the server logs it and goes on
                if manager.add_extension(name, enabled=True):
                    manager.link_extension(name)
        except SystemExit:
            unlinked = linked.ending
        (linked.names if manager.linked_extensions.get(name) else unlinked).append(name)
        linked.setters.update(
            {trait: name for trait in CHOICES if present(app, trait) is not before[trait]}
        )
    return linked


def present(app: ServerApp, trait: str) -> type | None:
    """Return the class that has been chosen so far; ``None`` where none has."""
    return getattr(app, trait) if app.trait_has_value(trait) else None


def unseen(linked: Linked) -> list[str]:
    """Return notes about what only a started server shows."""
    lines = [f"the extension {name} could not be linked" for name in linked.failed]
    lines += [f"a server does not start: the extension {name} ends it" for name in linked.ending]
    if set(linked.names) - {"kernelwire"}:
        lines.append(
            "an extension that replaces a class only when it is loaded does not show here; the log"
            " of a server names it"
        )
    return [f"note: {line}" for line in lines]


def loading_trouble() -> str:
    """Say why kernelwire's classes cannot be loaded; empty where they can."""
    try:
        for path in [*CHOICES.values(), *GATEWAY_CHOICES.values()]:
            import_item(path)
    except Exception as error:  # whatever it is, the server goes on without
        return f"kernelwire could not be loaded ({error})"
    return ""


def reason_for(configured: Choice, linked: Linked, setter: str | None, trouble: str) -> str:
    """Return why a server uses the class that it uses.

    Args:
        configured: What was decided before any extension was linked.
        linked: What became of the extensions.
        setter: The extension that has set the class, if one has.
        trouble: Why kernelwire's classes cannot be loaded; empty where they can.
    """
    if setter == "kernelwire":
        return "installed, and no other class was chosen"
    if setter:
        return set_by(setter)
    if "kernelwire" not in [*linked.names, *linked.failed, *linked.ending]:
        return "the server extension kernelwire is not enabled"
    if configured.replace and trouble:
        return trouble
    if configured.replace:
        return "the extension kernelwire could not be linked"
    return configured.reason


def receiving(trouble: str) -> list[str]:
    """Say how messages are received and why."""
    if trouble:
        return ["receiving", "    not at all", f"    because {trouble}"]
    from kernelwire.sockets.drain import drain  # noqa: PLC0415 (cannot be imported where there is trouble)
    from kernelwire.sockets.driver import driver  # noqa: PLC0415 (as above)

    found = drain()
    how = "natively" if found.native else "portably, through pyzmq"
    who, why = driver()
    driving = "the engine: output flows while the server is busy" if who else "the event loop"
    return [
        *("receiving", f"    {how}", f"    because {found.reason}"),
        *("driver", f"    {driving}", f"    because {why}"),
    ]


def self_test(app: ServerApp, trouble: str) -> list[str]:
    """Say what the installed packages lack, and what that turns off."""
    if trouble:
        return []
    from kernelwire._self_test import report  # noqa: PLC0415 (imports what it tests)

    return report(ours_in_place(app))


def without_app(argv: list[str]) -> tuple[list[str], str]:
    """Return the arguments without ``--app``, and what that says; nothing where it is not there."""
    rest, app = list(argv), ""
    for at, each in enumerate(argv):
        name, equals, value = each.partition("=")
        if name == APP:
            app = value if equals else "".join(argv[at + 1 : at + 2])
            del rest[at : at + (1 if equals else 2)]
            break
    return rest, app


def versions(*packages: str) -> list[str]:
    """Say which versions are installed."""
    width = max(map(len, packages)) + 4
    lines = [f"{name:<{width}}{installed(name)}" for name in packages]
    return [*lines, f"{'libzmq':<{width}}{zmq.zmq_version()}"]


def installed(package: str) -> str:
    """Return the installed version of a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


class KernelwireApp(JupyterApp):
    """The command with its subcommands."""

    name = "jupyter-kernelwire"
    version = __version__
    description = Unicode("Rust-accelerated bridge between Jupyter kernels and browsers.")
    subcommands: Any = Dict(
        {
            "status": (StatusApp, "Say which classes a server started now would use, and why."),
            # By its name: it is imported only where it is called.
            "bench": ("kernelwire.bench.app.BenchApp", "Measure stock and kernelwire here."),
        }
    )

    def start(self) -> None:
        """Start the subcommand, or say which there are."""
        if self.subapp is None:
            self.print_help()
            self.exit(1)
        super().start()


def main() -> None:
    """Run ``jupyter kernelwire``."""
    KernelwireApp.launch_instance()


if __name__ == "__main__":
    main()
