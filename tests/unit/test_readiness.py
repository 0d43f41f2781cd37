"""Asking a kernel whether it is up: not for a life that has ended."""

from __future__ import annotations

import asyncio
from unittest.mock import MagicMock

from jupyter_client.session import Session

from kernelwire.kernels.readiness import Readiness


def test_ask_when_it_is_closed_by_what_it_reads_then_no_socket_is_opened() -> None:
    """Stops one that stays open for ever: what the kernel has said may tell of another process."""

    async def body() -> None:
        kernel = MagicMock(ports=[1], session=Session(key=b""))

        def is_up() -> bool:
            readiness.close()
            return False

        readiness = Readiness(
            kernel,
            is_up=is_up,
            is_asked=lambda: False,
            on_ready=MagicMock(),
            on_new_ports=MagicMock(),
        )
        readiness._ask()
        kernel.connect_shell.assert_not_called()

    asyncio.run(body())
