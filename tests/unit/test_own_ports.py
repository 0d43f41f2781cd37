"""Test the ports that runs of the tests have for themselves."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from support.server import free_port
from support.startup import own_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

CHOOSE = "import socket; print(socket.create_server(('127.0.0.1', 0)).getsockname()[1])"


@pytest.fixture
def another_run(monkeypatch: pytest.MonkeyPatch) -> Iterator[range]:
    """Claim the ports of a second run."""
    monkeypatch.setenv(own_ports.VARIABLE, "")
    claimed = own_ports.claim()
    assert claimed is not None
    yield range(own_ports.first_own(), own_ports.first_own() + own_ports.SHARE)
    claimed.close()


def test_ports_when_two_runs_claim_then_they_share_none(another_run: range) -> None:
    """Stops a kernel of one run from starting on a port that another run has just taken."""
    chosen = subprocess.run([sys.executable, "-c", CHOOSE], capture_output=True, check=True)
    assert int(chosen.stdout) in another_run
    assert free_port() in another_run


@pytest.mark.parametrize("shares_address", [False, True])
def test_ports_when_all_of_a_share_are_taken_then_the_system_chooses(
    another_run: range, monkeypatch: pytest.MonkeyPatch, shares_address: bool
) -> None:
    """Stops a run with many kernels from failing, and a port that is kept from being found free."""
    # The run that had this share before may have left some of its ports waiting for late packets.
    monkeypatch.setattr(own_ports, "SHARE", 20)
    chosen = []
    with ExitStack() as opened:
        for _ in range(own_ports.SHARE):
            each = opened.enter_context(socket.socket())
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, shares_address)
            each.bind(("127.0.0.1", 0))
            chosen.append(each.getsockname()[1])
        assert free_port() not in another_run
    assert chosen[0] in another_run
    assert chosen[-1] not in another_run
