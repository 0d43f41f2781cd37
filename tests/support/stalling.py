"""A server extension that blocks the event loop, as a careless extension or a slow disk does.

And one that tells how far its connections are, so that a test sees what is done in between.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.utils import url_path_join
from tornado import web

from support.waiting import wait_until

if TYPE_CHECKING:
    from support.server import Implementation, JsonConfig

EXTENSION = "support.stalling"
PATH = "/tests/stall"
STATS_PATH = "/tests/stats"


class StallHandler(JupyterHandler):
    """Blocks until a file is there, and for some time at least."""

    @web.authenticated
    def get(self) -> None:
        """Make the file ``began``, then block for ``seconds`` and until the file ``until`` exists."""
        Path(self.get_argument("began")).touch()
        time.sleep(float(self.get_argument("seconds")))
        until = Path(self.get_argument("until"))
        wait_until(until.exists, what="the end of the stall", timeout=30)
        self.finish({})


class StatsHandler(JupyterHandler):
    """Tells the counters of the connections that are open."""

    @web.authenticated
    def get(self) -> None:
        """Answer with a list."""
        connections = ZMQChannelsWebsocketConnection._open_sockets
        self.finish({"connections": [connection.stats for connection in connections]})


def stallable(
    implementation: Implementation, config: JsonConfig
) -> tuple[Implementation, JsonConfig]:
    """What a server needs to have the extension: it finds it in the tests' folder."""
    folders = [str(Path(__file__).parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    path = {"PYTHONPATH": os.pathsep.join(filter(None, folders))}
    found = replace(implementation, environment={**implementation.environment, **path})
    enabled: dict[str, Any] = {"jpserver_extensions": {EXTENSION: True}}
    return found, {**config, "ServerApp": {**config.get("ServerApp", {}), **enabled}}


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": EXTENSION}]


def _load_jupyter_server_extension(app: Any) -> None:
    base = app.web_app.settings["base_url"]
    handlers = ((PATH, StallHandler), (STATS_PATH, StatsHandler))
    routes = [(url_path_join(base, path), handler) for path, handler in handlers]
    app.web_app.add_handlers(".*$", routes)
