"""The two flooding kernels send the same, and the relay passes it on."""

from __future__ import annotations

import pytest
from benches import rivals

from kernelwire.bench.asking import listening, order_flood, receive_flood
from kernelwire.bench.flood_kernel import TRACE, Order
from kernelwire.bench.server import Settings
from kernelwire.bench.trips import COMM, KERNEL_INFO, KEY, round_trip_ns
from kernelwire.bench.verify import check_complete, collect

pytestmark = pytest.mark.skipif(
    not rivals.has_relay(), reason="`make relay` builds what this needs, on Linux"
)


def account(flooder: tuple[str, ...], order: Order) -> dict:
    """What a kernel says of a flood that has arrived through the relay."""
    with rivals.RelayServer(Settings(flooder=flooder)) as server, listening(server) as client:
        for question in (KERNEL_INFO, COMM, KEY):
            assert round_trip_ns(client, question) > 0
        msg_id = order_flood(client, order)
        receive_flood(client, order.count)
        return check_complete(collect(client, msg_id, order.emit, order.count))


@pytest.mark.parametrize(
    "order",
    [
        Order(count=50),
        Order(emit="display_data", count=3, size=2_000),
        Order(emit="comm_msg", count=3, size=1_000, buffer=200_000),
        Order(emit="notebook", count=2 * len(TRACE)),
        Order(count=20, rate=1_000),
    ],
    ids=lambda order: order.emit,
)
def test_flooders_when_ordered_the_same_then_they_send_the_same(order: Order) -> None:
    """Stops figures of the native kernel from being those of other messages."""
    native, python = (account(each, order) for each in (rivals.native_flooder(), ()))
    assert native["content_digest"] == python["content_digest"]
    assert len(native["sent_ns"]) == len(python["sent_ns"]) == (order.count if order.rate else 1)
