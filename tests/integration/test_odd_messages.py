"""Legal but unusual messages of kernels: they arrive as on stock, and life goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.fake_kernel import emit, script

if TYPE_CHECKING:
    from support.server import Server, StartKernel
    from support.ws_client import Connect


@pytest.mark.parametrize(
    "kind", ["nanoseconds", "date_null", "parent_empty", "parent_null", "identities"]
)
def test_odd_message_arrives_between_others(
    server: Server, connect: Connect, start_kernel: StartKernel, kind: str, protocol: str
) -> None:
    """It is sent on in its place, and followed without a complaint."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id, protocol=protocol)
    log_end = server.log_end()
    execution = client.execute(script(emit(1), {"do": "odd", "kind": kind, "count": 2}, emit(1)))
    texts = [m.content["data"]["text/plain"] for m in execution.of_type("display_data")]
    assert texts == ["0:\n", "-1:\n", "-1:\n", "1:\n"]
    assert client.execute(script(emit(1))).numbers == [2]
    server.wait_for_state(kernel_id, "idle")
    assert server.log_lines(log_end) == []


@pytest.mark.kernelwire_only("I13")
@pytest.mark.parametrize("kind", ["version_empty", "version_null"])
def test_odd_header_costs_no_other_message(
    server: Server, connect: Connect, start_kernel: StartKernel, kind: str, protocol: str
) -> None:
    """It is sent on, or one line is logged; the state is followed and the client is served."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id, protocol=protocol)
    log_end = server.log_end()
    execution = client.execute(script(emit(1), {"do": "odd", "kind": kind, "count": 2}, emit(1)))
    assert execution.numbers == [0, 1]
    assert client.execute(script(emit(1))).numbers == [2]
    server.wait_for_state(kernel_id, "idle")
    assert len(server.log_lines(log_end)) <= 1


@pytest.mark.kernelwire_only("I13")
def test_welcome_is_no_activity(
    server: Server, connect: Connect, start_kernel: StartKernel, protocol: str
) -> None:
    """A visitor makes the kernel greet all subscribers; the kernel has done nothing."""
    kernel_id = start_kernel("fake-xpub")
    client = connect(kernel_id, protocol=protocol)
    client.execute(script(emit(1)))
    server.wait_for_state(kernel_id, "idle")
    before = server.kernel(kernel_id)["last_activity"]
    for _ in range(3):
        connect(kernel_id, protocol=protocol)
    kernel = server.kernel(kernel_id)
    assert (kernel["execution_state"], kernel["last_activity"]) == ("idle", before)
