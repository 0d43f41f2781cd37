"""A pytest plugin that runs Jupyter Server's own tests on kernelwire.

``pytest -p support.upstream``, with ``tests`` on ``PYTHONPATH``, in the root of Jupyter Server's
sources. It replaces classes and functions where Jupyter Server defines and imports them, before
any test imports them. With ``KERNELWIRE_UPSTREAM=stock`` it replaces nothing, to see whether a test
fails without kernelwire as well.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
from jupyter_server import serverapp  # imports all that refers to what is replaced
from jupyter_server.gateway import connections
from jupyter_server.services.kernels import kernelmanager
from jupyter_server.services.kernels.connection import base, channels

from kernelwire import (
    KernelwireGatewayConnection,
    KernelwireMappingKernelManager,
    KernelwireWebsocketConnection,
    wire,
)

REPLACED = {
    channels.ZMQChannelsWebsocketConnection: KernelwireWebsocketConnection,
    connections.GatewayWebSocketConnection: KernelwireGatewayConnection,
    kernelmanager.AsyncMappingKernelManager: KernelwireMappingKernelManager,
    base.deserialize_binary_message: wire.deserialize_binary_message,
    base.deserialize_msg_from_ws_v1: wire.deserialize_msg_from_ws_v1,
    base.serialize_binary_message: wire.serialize_binary_message,
    base.serialize_msg_to_ws_v1: wire.serialize_msg_to_ws_v1,
}

COMPARES_STATES = ("test_modify_kernel_id", "test_modify_kernel_name")
"""Tests that take for granted that a new kernel to which nobody connects stays "starting"."""


def replace() -> int:
    """Replace each name of Jupyter Server that is bound to one of the originals."""
    count = 0
    for module_name, module in list(sys.modules.items()):
        if not module_name.startswith("jupyter_server"):
            continue
        for name, value in list(vars(module).items()):
            if isinstance(value, type) or callable(value):
                ours = next((new for old, new in REPLACED.items() if value is old), None)
                if ours is not None:
                    setattr(module, name, ours)
                    count += 1
    return count


@pytest.fixture(autouse=True)
def states_as_upstream(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have states follow upstream's rule where they are compared at two times.

    With kernelwire's, a kernel is idle once it is up, which may be between the two.
    """
    if getattr(request.node, "originalname", None) not in COMPARES_STATES:
        return
    manager: Any = KernelwireMappingKernelManager
    initialize = manager.__init__

    def with_upstreams_rule(self: Any, **kwargs: Any) -> None:
        initialize(self, **{"execution_state_policy": "stock"} | kwargs)

    monkeypatch.setattr(manager, "__init__", with_upstreams_rule)


def pytest_report_header() -> str:
    """Say on what the tests run."""
    return f"jupyter_server {serverapp.__version__} on {RUNS_ON}"


if os.environ.get("KERNELWIRE_UPSTREAM") == "stock":
    RUNS_ON = "its own classes"
else:
    RUNS_ON = f"kernelwire's classes and functions, in {replace()} places"
