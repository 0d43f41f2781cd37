"""``jupyter kernelwire status --app kernel-gateway``: what a Kernel Gateway started now would use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jupyter_core.application import JupyterApp

from kernelwire._switch import OFF_REASON, is_switched_off
from kernelwire.in_use import CONNECTION_TRAIT, MANAGER_TRAIT, is_kernelwires, qualified_name

__all__ = ["report"]

CONFIG = Path(__file__).with_name("kernel_gateway_config.py")
"""What switches kernelwire on in a Kernel Gateway."""


def report(argv: list[str]) -> tuple[dict[str, Any], bool]:
    """Report which classes a gateway would use, and why; and whether its connections are kernelwire's.

    Returns that, and whether any of the classes is kernelwire's.

    Args:
        argv: Options of ``jupyter kernelgateway``.
    """
    try:
        from kernel_gateway.gatewayapp import KernelGatewayApp  # noqa: PLC0415 (may not be installed)
    except ImportError as error:
        trouble = [f"a Kernel Gateway cannot be started: {error}"]
        return {"on": False, "classes": {}, "notes": trouble}, False
    app: Any = KernelGatewayApp(log_level="ERROR")
    # The gateway's own `initialize` would bind a port.
    JupyterApp.initialize(app, argv)
    classes = {}
    for trait in (CONNECTION_TRAIT, MANAGER_TRAIT):
        is_configured = any(trait in section for section in app.config.values())
        chosen = (
            "it was chosen by configuration" if is_configured else "it is the gateway's default"
        )
        classes[trait] = {"class": qualified_name(getattr(app, trait)), "reason": chosen}
    is_on = is_kernelwires(getattr(app, CONNECTION_TRAIT))
    notes = [] if is_on else [how_to_switch_on()]
    is_used = is_on or is_kernelwires(getattr(app, MANAGER_TRAIT))
    return {"on": is_on, "classes": classes, "notes": notes}, is_used


def how_to_switch_on() -> str:
    """Say what has a gateway use kernelwire."""
    if is_switched_off():
        return OFF_REASON
    return (
        f"jupyter kernelgateway --config={CONFIG} uses kernelwire's; a"
        " jupyter_kernel_gateway_config.py is not read then"
    )
