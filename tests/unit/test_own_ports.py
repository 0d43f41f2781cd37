"""Test the ports that runs of the tests have for themselves."""

from __future__ import annotations

import socket
import subprocess
import sys
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


def test_ports_when_all_of_a_share_are_taken_then_the_system_chooses(
    another_run: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stops a run with many kernels from failing where it need not."""
    monkeypatch.setattr(own_ports, "SHARE", 2)
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        assert first.getsockname()[1] in another_run
        assert second.getsockname()[1] not in another_run


def test_port_when_another_may_share_its_address_then_it_is_not_given_twice(
    another_run: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stops a port that is kept for a kernel from being found free."""
    monkeypatch.setattr(own_ports, "SHARE", 2)
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        assert kept.getsockname()[1] in another_run
        assert free_port() not in another_run
