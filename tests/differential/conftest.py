"""What is compared must have come by a given turn of the event loop: it does the work here.

What the engine does is compared with stock in ``tests/integration``, on a server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernelwire.sockets import driver

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True, scope="module")
def _on_the_loop() -> Iterator[None]:
    """Have the event loop read and write."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "_chosen", lambda: "loop")
        yield
