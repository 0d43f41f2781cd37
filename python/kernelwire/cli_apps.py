"""``jupyter kernelwire status --app``: what an application that loads no server extensions would use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_core.application import JupyterApp
from jupyter_core.paths import jupyter_config_dir

from kernelwire._switch import OFF_REASON, is_switched_off
from kernelwire.in_use import CONNECTION_TRAIT, MANAGER_TRAIT, is_kernelwires, qualified_name

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["APPS", "Application", "report"]

GATEWAY_CONFIG = Path(__file__).with_name("kernel_gateway_config.py")
"""What switches kernelwire on in a Kernel Gateway."""

VOILA_MANAGER_TRAIT = "multi_kernel_manager_class"
"""Voilà's name for the trait of the manager."""


class Application(NamedTuple):
    """An application that has to be told to use kernelwire."""

    name: str
    """What people call it."""
    package: str
    """What has it installed."""
    configured: Callable[[list[str]], tuple[Any, dict[str, type]]]
    """Configure one with options: the application, and its classes by trait."""
    remedy: str
    """What has it use kernelwire."""


def report(application: Application, argv: list[str]) -> tuple[dict[str, Any], set[str]]:
    """Report which classes an application would use, and why; and which traits have kernelwire's.

    Args:
        application: One of ``APPS``.
        argv: Its options.
    """
    try:
        app, found = application.configured(argv)
    except ImportError as error:
        notes = [f"{application.name} cannot be started: {error}"]
        return {"on": False, "classes": {}, "notes": notes}, set()
    classes = {}
    for trait, cls in found.items():
        is_configured = any(trait in section for section in app.config.values())
        chosen = "it was chosen by configuration" if is_configured else "it is the default there"
        classes[trait] = {"class": qualified_name(cls), "reason": chosen}
    ours = {trait for trait, cls in found.items() if is_kernelwires(cls)}
    is_on = CONNECTION_TRAIT in ours
    remedy = OFF_REASON if is_switched_off() else application.remedy
    return {"on": is_on, "classes": classes, "notes": [] if is_on else [remedy]}, ours


def _configured_gateway(argv: list[str]) -> tuple[Any, dict[str, type]]:
    """Configure a Kernel Gateway."""
    from kernel_gateway.gatewayapp import KernelGatewayApp  # noqa: PLC0415 (may not be installed)

    app: Any = KernelGatewayApp(log_level="ERROR")
    # The gateway's own `initialize` would bind a port.
    JupyterApp.initialize(app, argv)
    return app, {trait: getattr(app, trait) for trait in (CONNECTION_TRAIT, MANAGER_TRAIT)}


def _configured_voila(argv: list[str]) -> tuple[Any, dict[str, type]]:
    """Configure a Voilà that is an application of its own; nothing is bound or started."""
    from voila.app import Voila  # noqa: PLC0415 (may not be installed)

    app: Any = Voila(log_level="ERROR")
    app.initialize(argv)
    manager = getattr(app.voila_configuration, VOILA_MANAGER_TRAIT)
    return app, {
        CONNECTION_TRAIT: getattr(app, CONNECTION_TRAIT),
        VOILA_MANAGER_TRAIT: manager,
    }


APPS = {
    "kernel-gateway": Application(
        "a Kernel Gateway",
        "jupyter_kernel_gateway",
        _configured_gateway,
        f"jupyter kernelgateway --config={GATEWAY_CONFIG} uses kernelwire's; a"
        " jupyter_kernel_gateway_config.py is not read then",
    ),
    "voila": Application(
        "Voilà",
        "voila",
        _configured_voila,
        f"two lines in {Path(jupyter_config_dir(), 'voila.py')} have it use kernelwire's: from"
        " kernelwire.voila_config import c as kernelwire_config; c.merge(kernelwire_config)",
    ),
}
"""By the value of ``--app``."""
