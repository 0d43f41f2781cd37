"""``jupyter kernelwire``: what kernelwire does in this environment."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import zmq
from jupyter_core.application import JupyterApp
from traitlets import Dict, Unicode
from traitlets.utils.importstring import import_item

from kernelwire import __version__
from kernelwire._switch import OFF_REASON, is_switched_off
from kernelwire.cli_apps import APPS
from kernelwire.cli_apps import report as report_on_app
from kernelwire.extension import (
    CHOICES,
    GATEWAY_CHOICES,
    STAND_INS,
    Choice,
    choose,
    decision,
)
from kernelwire.in_use import (
    CONNECTION_TRAIT,
    is_kernelwires,
    ours_in_place,
    qualified_name,
    set_by,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from jupyter_server.serverapp import ServerApp

LIVE, JSON = "--live", "--json"

APP = "--app"

PACKAGES = ("kernelwire", "jupyter_server", "jupyter_client", "pyzmq", "tornado")


class StatusApp(JupyterApp):
    """Says which classes a server started now would use, and why."""

    name = "jupyter-kernelwire-status"
    version = __version__
    description = Unicode(
        "Say which classes a Jupyter server started now would use and why, how kernel messages are"
        " received, and which versions are installed. Options of `jupyter server` are understood."
        " The exit status is 0 where kernelwire is on, and 1 where it is off or no server starts."
        " With --app kernel-gateway or --app voila, say which classes a Kernel Gateway or the command"
        " `voila` would use; options of `jupyter kernelgateway` or `voila` are understood then."
        " With --live, say instead what goes on in the servers of this user that are running."
        " With --json, print the report as JSON."
    )
    flags: Any = Dict(
        {
            "live": (
                {},
                "Say what goes on in the running servers: kernels, clients, what they wait for.",
            ),
            "json": ({}, "Print the report as JSON."),
        }
    )
    aliases: Any = Dict({})
    argv: list[str]
    live = False
    """Whether to ask running servers."""
    app = ""
    """The application that is meant; empty for a server."""
    as_json = False
    """Whether a program reads the report."""

    def parse_command_line(self, argv: list[str] | None = None) -> None:
        """Keep the arguments for the server whose configuration is looked at."""
        self.argv, self.app = without_app(argv or [])
        if self.app and self.app not in APPS:
            self.log.critical("%s is %r, it can be %s", APP, self.app, " or ".join(APPS))
            self.exit(2)
        self.live, self.as_json = LIVE in self.argv, JSON in self.argv
        self.argv = [each for each in self.argv if each not in (LIVE, JSON)]
        if {"-h", "--help", "--help-all", "--version"} & set(self.argv):
            super().parse_command_line(argv)

    def start(self) -> None:
        """Print the report and exit."""
        self.log_level = "ERROR"  # extensions log through it, such as that one is slow to import
        if self.live:
            from kernelwire.cli_live import ask_running, report_of_running  # noqa: PLC0415 (of no use otherwise)

            answers, is_any_on = ask_running()
            self.finish(answers, report_of_running(answers), is_any_on)
        report = report_of_app(self.app, self.argv) if self.app else report_of_server(self.argv)
        self.finish(report, as_text(report), report["on"])

    def finish(self, report: Any, lines: list[str], is_on: bool) -> NoReturn:
        """Print a report, as JSON or as its lines, and exit."""
        text = json.dumps(report, indent=2) if self.as_json else "\n".join(lines)
        print(text, flush=True)  # noqa: T201 (this is what it is for)
        sys.exit(0 if is_on else 1)


def report_of_server(argv: list[str]) -> dict[str, Any]:
    """Report which classes a server started with these options would use, and why.

    docs/commands.md lists the keys, which ``jupyter kernelwire status --json`` prints.
    """
    app = configured_server(argv)
    trouble = loading_trouble()
    configured = {trait: choose(app, trait) for trait in CHOICES}
    linked = link_extensions(app)
    found = {trait: present(app, trait) for trait in CHOICES}
    classes = {}
    for trait, choice in configured.items():
        cls = found[trait]
        name = qualified_name(cls) if cls else choice.present
        decided = decision(app, trait)
        reason = reason_for(choice, linked, linked.setters.get(trait), trouble)
        if decided and decided.stands_in and linked.setters.get(trait) == "kernelwire":
            reason = decided.reason
        classes[trait] = {"class": name, "reason": reason}
    ours = {trait for trait, cls in found.items() if cls is not None and is_kernelwires(cls)}
    return {
        "on": CONNECTION_TRAIT in ours and not linked.ending,
        "classes": classes,
        "notes": [*possible_stand_ins(found[CONNECTION_TRAIT]), *unseen(linked)],
        **receiving(trouble, ours),
        "self_test": self_test(app, trouble),
        "versions": versions(*PACKAGES),
    }


def report_of_app(name: str, argv: list[str]) -> dict[str, Any]:
    """Report the same of an application that loads no server extensions."""
    application = APPS[name]
    found, ours = report_on_app(application, argv)
    return {
        **found,
        **receiving(loading_trouble(), ours),
        "self_test": [],
        "versions": versions(*PACKAGES, application.package),
    }


def as_text(report: dict[str, Any]) -> list[str]:
    """Write a report as lines."""
    lines = [
        line
        for trait, found in report["classes"].items()
        for line in (trait, f"    {found['class']}", f"    because {found['reason']}")
    ]
    lines += [f"note: {note}" for note in report["notes"]]
    for subject, described in (("receiving", RECEIVING), ("driver", DRIVERS)):
        if found := report[subject]:
            lines += [subject, f"    {described[found['by']]}", f"    because {found['reason']}"]
    for found in report["self_test"]:
        lines += ["self-test", f"    {found['result']}", f"    because {found['reason']}"]
    width = max(map(len, report["versions"])) + 4
    return lines + [f"{name:<{width}}{found}" for name, found in report["versions"].items()]


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


def possible_stand_ins(connection: type | None) -> list[str]:
    """Return a note where kernelwire's connection could serve in the place of the present one."""
    name = qualified_name(connection) if connection else ""
    if name not in STAND_INS or is_switched_off():
        return []
    trait = f'c.KernelwireWebsocketConnection.stand_in_for = ["{name}"]'
    return [
        f"kernelwire's connection can stand in for the extension's, see docs/works-with.md: {trait}"
    ]


def unseen(linked: Linked) -> list[str]:
    """Return notes about extensions that failed, and about what only a started server shows."""
    lines = [f"the extension {name} could not be linked" for name in linked.failed]
    lines += [f"a server does not start: the extension {name} ends it" for name in linked.ending]
    if set(linked.names) - {"kernelwire"}:
        lines.append(
            "an extension that replaces a class only when it is loaded does not show here; the log"
            " of a server names it"
        )
    return lines


def loading_trouble() -> str:
    """Say why kernelwire's classes are not loaded, or cannot be; empty where they can."""
    if is_switched_off():
        return OFF_REASON
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
        off = is_switched_off()
        return OFF_REASON if off else "installed, and no other class was chosen"
    if setter:
        return set_by(setter)
    if "kernelwire" not in [*linked.names, *linked.failed, *linked.ending]:
        return "the server extension kernelwire is not enabled"
    if configured.replace and trouble:
        return trouble
    if configured.replace:
        return "the extension kernelwire could not be linked"
    return configured.reason


RECEIVING = {
    "native": "natively",
    "pyzmq": "portably, through pyzmq",
    "none": "not at all",
}
"""What receives kernel messages, in the words of the report."""

DRIVERS = {
    "engine": "the engine: output flows while the server is busy",
    "loop": "the event loop",
}
"""What reads kernels and writes to browsers, likewise."""


def receiving(trouble: str, ours: Collection[str]) -> dict[str, Any]:
    """Report how messages are received and who does it, each with the reason.

    Args:
        trouble: Why kernelwire's classes cannot be loaded; empty where they can.
        ours: The traits whose class is kernelwire's. Without its manager and connections nothing is
            received; without its connections nothing is written either, so nobody drives them.
    """
    if not (trouble or ours):
        trouble = "neither class is kernelwire's"
    if trouble:
        return {"receiving": {"by": "none", "reason": trouble}, "driver": None}
    from kernelwire.sockets.drain import drain  # noqa: PLC0415 (cannot be imported where there is trouble)
    from kernelwire.sockets.driver import driver  # noqa: PLC0415 (as above)

    found = drain()
    has_engine, why = driver()
    drives = {"by": "engine" if has_engine else "loop", "reason": why}
    return {
        "receiving": {"by": "native" if found.native else "pyzmq", "reason": found.reason},
        "driver": drives if CONNECTION_TRAIT in ours else None,
    }


def self_test(app: ServerApp, trouble: str) -> list[dict[str, str]]:
    """Report what the installed packages lack, and what that turns off."""
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


def versions(*packages: str) -> dict[str, str]:
    """Return which versions are installed."""
    return {name: installed(name) for name in packages} | {"libzmq": zmq.zmq_version()}


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
    try:
        KernelwireApp.launch_instance()
    except BrokenPipeError:  # whoever reads has seen enough, as `head` has
        # What is left to be written must not fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
