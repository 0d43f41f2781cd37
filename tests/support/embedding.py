"""Two servers in an application of somebody else's: ``python embedding.py --config=FILE``.

They have the bases ``/one/`` and ``/two/``. Under ``/own`` the application says so itself, and a DELETE
there ends the kernels of the first.
"""

from __future__ import annotations

import sys

from jupyter_server.serverapp import ServerApp
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.routing import PathMatches, Rule, RuleRouter
from tornado.web import Application, RequestHandler

BASES = ("/one/", "/two/")
OWN = "/own"


class OwnHandler(RequestHandler):
    """What the application has beside the servers."""

    def initialize(self, first: ServerApp) -> None:
        """Take the server that can be ended."""
        self._first = first

    def get(self) -> None:
        """Answer."""
        self.finish({"own": True})

    async def delete(self) -> None:
        """End the first server's kernels."""
        await self._first.cleanup_kernels()
        self.finish({})


def main() -> None:
    """Serve until the signal to stop."""
    loop = IOLoop()
    loop.make_current()
    servers = [ServerApp(base_url=base) for base in BASES]
    for server in servers:
        server.initialize(sys.argv[1:], new_httpserver=False)
    own = Application([(OWN, OwnHandler, {"first": servers[0]})])
    rules = [Rule(PathMatches(f"{server.base_url}.*"), server.web_app) for server in servers]
    rules.append(Rule(PathMatches(OWN), own))
    HTTPServer(RuleRouter(rules)).listen(servers[0].port, "127.0.0.1")
    servers[0].write_server_info_file()
    loop.start()
    for server in servers:
        loop.run_sync(server._cleanup)


if __name__ == "__main__":
    main()
