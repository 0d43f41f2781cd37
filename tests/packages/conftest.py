"""A server with packages of others, with kernelwire as its installation switches it on, or without."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from support.extensions import FIRST, LINKED_FIRST
from support.server import Implementation, JsonConfig, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.extensions import StartWith


@pytest.fixture(scope="module", params=["stock", "kernelwire"])
def is_on(request: pytest.FixtureRequest) -> bool:
    """Whether kernelwire is enabled, as it is where it is installed."""
    return bool(request.param == "kernelwire")


@pytest.fixture(scope="module")
def start_with(is_on: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartWith]:
    """Start servers with extensions of others; one at a time, the one before ends."""
    with ExitStack() as stack:

        def start(
            *extensions: str, config: JsonConfig | None = None, first: bool = False
        ) -> Server:
            stack.close()
            modules = tmp_path_factory.mktemp("modules")
            (modules / f"{FIRST}.py").write_text(LINKED_FIRST)
            name = FIRST if first else "kernelwire"
            enabled = dict.fromkeys(extensions, True) | {name: is_on}
            settings = {**(config or {})}
            settings["ServerApp"] = settings.get("ServerApp", {}) | {"jpserver_extensions": enabled}
            environment = {"PYTHONPATH": str(modules)}
            implementation = Implementation("unconfigured", {}, environment)
            server = Server(tmp_path_factory.mktemp("server"), implementation, settings)
            stack.callback(server.stop)
            return server

        yield start
