"""``jupyter kernelwire``: what kernelwire does in this environment."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import zmq
from jupyter_core.application import JupyterApp
from traitlets import Dict, Unicode
from traitlets.utils.importstring import import_item

from kernelwire import __version__
from kernelwire.extension import CHOICES, choose

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

PACKAGES = ("kernelwire", "jupyter_server", "jupyter_client", "pyzmq", "tornado")


class StatusApp(JupyterApp):
    """Says which classes a server started now would use, and why."""

    name = "jupyter-kernelwire-status"
    version = __version__
    description = Unicode(
        "Say which classes a Jupyter server started now would use and why, how kernel messages are"
        " received, and which versions are installed. Options of `jupyter server` are understood."
        " The exit status is 0 where kernelwire is on, and 1 where it is off."
    )
    flags: Any = Dict({})
    aliases: Any = Dict({})
    argv: list[str]

    def parse_command_line(self, argv: list[str] | None = None) -> None:
        """Keep the arguments for the server whose configuration is looked at."""
        self.argv = list(argv or [])
        if {"-h", "--help", "--help-all", "--version"} & set(self.argv):
            super().parse_command_line(argv)

    def start(self) -> None:
        """Print the report and exit."""
        app = configured_server(self.argv)
        enabled = bool(app.jpserver_extensions.get("kernelwire"))
        trouble = loading_trouble()
        lines: list[str] = []
        on = [describe(app, trait, enabled, trouble, lines) for trait in CHOICES]
        lines += [*receiving(trouble), *(f"{name:<18}{installed(name)}" for name in PACKAGES)]
        lines.append(f"{'libzmq':<18}{zmq.zmq_version()}")
        print("\n".join(lines))  # noqa: T201 (this is what it is for)
        sys.exit(0 if on[0] else 1)


def configured_server(argv: list[str]) -> ServerApp:
    """Configure a server as one started now would be, up to where extensions are linked.

    Nothing is bound, written or started. The steps are those of ``ServerApp.initialize``.
    """
    from jupyter_server.serverapp import ServerApp  # noqa: PLC0415 (takes half a second)

    app = ServerApp(log_level="ERROR")
    JupyterApp.initialize(app, argv)
    app.find_server_extensions()
    return app


def loading_trouble() -> str:
    """Say why kernelwire's classes cannot be loaded; empty where they can."""
    try:
        for path in CHOICES.values():
            import_item(path)
    except Exception as error:  # whatever it is, the server goes on without
        return f"kernelwire could not be loaded ({error})"
    return ""


def describe(app: ServerApp, trait: str, enabled: bool, trouble: str, lines: list[str]) -> bool:
    """Add to ``lines`` one class and why it is the one; ``True`` where it is kernelwire's."""
    choice = choose(app, trait)
    chosen, reason = choice.present, choice.reason
    if not enabled:
        reason = "the server extension kernelwire is not enabled"
    elif choice.replace and trouble:
        reason = trouble
    elif choice.replace:
        chosen, reason = CHOICES[trait], "installed, and no other class was chosen"
    lines += [trait, f"    {chosen}", f"    because {reason}"]
    return chosen.startswith("kernelwire.")


def receiving(trouble: str) -> list[str]:
    """Say how messages are received and why."""
    if trouble:
        return ["receiving", "    not at all", f"    because {trouble}"]
    from kernelwire._drain import drain  # noqa: PLC0415 (cannot be imported where there is trouble)

    found = drain()
    how = "natively" if found.native else "portably, through pyzmq"
    return ["receiving", f"    {how}", f"    because {found.reason}"]


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
