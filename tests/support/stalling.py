"""A server extension that blocks the event loop, as a careless extension or a slow disk does.

And one that tells how far its connections are, so that a test sees what is done in between.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlencode

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.utils import url_path_join
from tornado import web
from tornado.ioloop import IOLoop

from kernelwire.sockets import driver
from support.server import Server
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.server import Implementation, JsonConfig

EXTENSION = "support.stalling"
PATH = "/tests/stall"
STATS_PATH = "/tests/stats"
BLOCK_PATH = "/tests/block"
ENGINE_PATH = "/tests/engine"
FORK_PATH = "/tests/fork"
LAPS_PATH = "/tests/laps"
SIGPIPE_PATH = "/tests/sigpipe"

LAP_SECONDS = 0.01


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


def _sleep(pipe: str) -> None:
    """Wait without the interpreter's lock, as for a slow disk."""
    os.close(os.open(pipe, os.O_RDONLY))


def _spin(pipe: str) -> None:
    """Compute, as what parses a large file."""
    while not Path(f"{pipe}.go").exists():
        pass


def _hold(pipe: str) -> None:
    """Wait with the interpreter's lock held, as an extension in C that does not give it up."""
    libc = ctypes.PyDLL(None)
    libc.close(libc.open(pipe.encode(), os.O_RDONLY))


WAYS: dict[str, Callable[[str], None]] = {
    "sleeping": _sleep,
    "spinning": _spin,
    "holding the lock": _hold,
}
"""How an event loop is kept from going on."""


class BlockHandler(JupyterHandler):
    """Blocks until somebody opens a named pipe."""

    @web.authenticated
    def get(self) -> None:
        """Make the file ``began``, then block in the way ``how`` until the pipe ``pipe`` is opened."""
        Path(self.get_argument("began")).touch()
        WAYS[self.get_argument("how")](self.get_argument("pipe"))
        self.finish({})


class EngineHandler(JupyterHandler):
    """Tells of the engine, or has it fail."""

    @web.authenticated
    def get(self) -> None:
        """Answer with the driver and the number of turns."""
        # To ask for the engine starts it, with descriptors of its own, also where nobody needs it.
        engine = driver.engine() if driver.driver().engine else None
        turns = None if engine is None else engine.turns()
        self.finish({"driver": driver.driver()._asdict(), "turns": turns})

    @web.authenticated
    def delete(self) -> None:
        """Have it panic."""
        engine = driver.engine()
        assert engine is not None
        engine.fail()
        self.finish({})


class ForkHandler(JupyterHandler):
    """Makes a child of the server that lives on with everything that it had open."""

    @web.authenticated
    def get(self) -> None:
        """Answer with the child's number; it collects its garbage and ends when the pipe is opened."""
        child = os.fork()
        if child == 0:
            gc.collect()
            os.close(os.open(self.get_argument("pipe"), os.O_RDONLY))
            sys.exit(0)  # as a child does that ends on its own: what it has is taken apart
        self.finish({"child": child})


class LapsHandler(JupyterHandler):
    """Counts how often the event loop calls who wants to be called every ten milliseconds."""

    calls: ClassVar[list[float]] = []

    @web.authenticated
    def get(self) -> None:
        """Answer with the number of calls so far, and the longest time between two, in seconds."""
        gaps = [after - before for before, after in pairwise(self.calls)]
        self.finish({"laps": len(self.calls), "longest": max(gaps, default=0.0)})

    @web.authenticated
    def put(self) -> None:
        """Begin, once."""
        if not self.calls:
            self._call()
        self.finish({})

    def _call(self) -> None:
        self.calls.append(time.monotonic())
        IOLoop.current().call_later(LAP_SECONDS, self._call)


class SigpipeHandler(JupyterHandler):
    """Has a pipe, or a socket, without a reader end the process, as is the system's default."""

    @web.authenticated
    def put(self) -> None:
        """Undo what Python does when it starts."""
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        self.finish({})


class StatsHandler(JupyterHandler):
    """Tells the counters of the connections that are open."""

    @web.authenticated
    def get(self) -> None:
        """Answer with a list."""
        connections = ZMQChannelsWebsocketConnection._open_sockets
        self.finish({"connections": [connection.stats for connection in connections]})


UNDER_WAY_SECONDS = 120.0
"""How long a request may be under way: as long as what is done meanwhile, on a busy machine."""


@contextmanager
def under_way(server: Server, request: str, began: Path) -> Iterator[Future[Any]]:
    """Have a request be under way, which makes the file ``began``; it is over behind this."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.request, "GET", request, timeout=UNDER_WAY_SECONDS)
        wait_until(began.exists, what="the beginning of the request")
        try:
            yield answer
        finally:
            answer.result()


@contextmanager
def blocked(server: Server, folder: Path, how: str) -> Iterator[None]:
    """Block a server's event loop, until this ends; nothing else is in the folder."""
    began, pipe = folder / "began", folder / "pipe"
    os.mkfifo(pipe)
    query = urlencode({"how": how, "began": began, "pipe": pipe})
    with under_way(server, f"{BLOCK_PATH}?{query}", began) as answer:
        try:
            yield
            assert not answer.done()
        finally:
            (folder / "pipe.go").touch()
            if how != "spinning":
                os.close(os.open(pipe, os.O_WRONLY))


@contextmanager
def stallable_servers(folder: Path) -> Iterator[Callable[[Implementation, JsonConfig], Server]]:
    """Start servers that have the extension and can be stalled, and stop them behind this."""
    servers: list[Server] = []

    def start(implementation: Implementation, config: JsonConfig) -> Server:
        home = folder / f"server-{len(servers)}"
        home.mkdir()
        implementation, config = stallable(implementation, config)
        config["ServerApp"]["jpserver_extensions"]["kernelwire"] = True
        servers.append(Server(home, implementation, config))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def stallable(
    implementation: Implementation, config: JsonConfig
) -> tuple[Implementation, JsonConfig]:
    """What a server needs to have the extension: it finds it in the tests' folder."""
    path = {"PYTHONPATH": str(Path(__file__).parents[1])}
    found = replace(implementation, environment={**implementation.environment, **path})
    enabled: dict[str, Any] = {"jpserver_extensions": {EXTENSION: True}}
    return found, {**config, "ServerApp": {**config.get("ServerApp", {}), **enabled}}


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": EXTENSION}]


def _load_jupyter_server_extension(app: Any) -> None:
    base = app.web_app.settings["base_url"]
    handlers = (
        (PATH, StallHandler),
        (STATS_PATH, StatsHandler),
        (BLOCK_PATH, BlockHandler),
        (ENGINE_PATH, EngineHandler),
        (FORK_PATH, ForkHandler),
        (LAPS_PATH, LapsHandler),
        (SIGPIPE_PATH, SigpipeHandler),
    )
    routes = [(url_path_join(base, path), handler) for path, handler in handlers]
    app.web_app.add_handlers(".*$", routes)
