"""A Jupyter Server on uvloop's event loop."""

from __future__ import annotations

from typing import Any

import uvloop
from jupyter_server.serverapp import ServerApp


class OnUvloop(ServerApp):
    """A server that starts on no other loop."""

    name = ServerApp.name

    def start_ioloop(self) -> None:
        """Run the loop."""
        loop: Any = self.io_loop
        assert isinstance(loop.asyncio_loop, uvloop.Loop)
        super().start_ioloop()


if __name__ == "__main__":
    uvloop.install()
    OnUvloop.launch_instance()
