"""Several tabs on one kernel: what each message costs per tab that it is delivered to."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from kernelwire.bench.asking import (
    EXTRA_MESSAGES,
    QUIET_S,
    SILENCE_S,
    connected,
    order_flood,
)
from kernelwire.bench.billing import billed
from kernelwire.bench.client import KernelSocket, SilenceError, pump
from kernelwire.bench.verify import check_complete, check_copy, collect

if TYPE_CHECKING:
    from kernelwire.bench.flood_kernel import Order
    from kernelwire.bench.host import Host

TABS = (1, 2, 4)
"""How many tabs are compared."""
ROOM_BYTES = 1_000
"""Bytes of a message besides its text, at most."""


def cost_by_tabs(server: Host, order: Order) -> dict[str, float]:
    """CPU of the server per delivered message in µs, by number of tabs, and four tabs by one."""
    costs = {tabs: cost_with(server, order, tabs) for tabs in TABS}
    if not all(costs.values()):
        return {}  # CPU time cannot be read here
    figures = {f"cpu_us_per_copy_{tabs}": cost for tabs, cost in costs.items()}
    return figures | {"four_tabs_to_one": costs[4] / costs[1]}


def cost_with(server: Host, order: Order, tabs: int) -> float:
    """CPU of the server per delivered message in µs; 0 where it cannot be read."""
    with ExitStack() as stack:
        kernel = stack.enter_context(server.kernel())
        clients = [stack.enter_context(connected(server, kernel)) for _ in range(tabs)]
        forget(clients)
        for client in clients:
            client.reserve(order.count * (ROOM_BYTES + order.size))
        with billed(server.pid) as bill:
            msg_id = order_flood(clients[0], order)
            receive_copies(clients, order.count)
        check(clients, msg_id, order)
    return bill.per_message(order.count * tabs).get("cpu_us_per_msg", 0)


def forget(clients: list[KernelSocket]) -> None:
    """Empty all clients of what the others' start has sent them."""
    with suppress(SilenceError):
        pump(clients, lambda: False, SILENCE_S)
    for client in clients:
        client.clear()


def receive_copies(clients: list[KernelSocket], count: int) -> None:
    """Wait until every client has the flood with its busy and idle; one has the reply as well."""
    wanted = [count + EXTRA_MESSAGES - (place > 0) for place in range(len(clients))]
    with suppress(SilenceError):
        pump(
            clients,
            lambda: all(c.count >= n for c, n in zip(clients, wanted, strict=True)),
            QUIET_S,
        )


def check(clients: list[KernelSocket], msg_id: str, order: Order) -> None:
    """Raise `WrongAnswerError` unless each client has every byte that was sent, once, in order."""
    floods = [collect(client, msg_id, order.emit, order.count) for client in clients]
    account = check_complete(floods[0])
    for flood in floods[1:]:
        check_copy(flood, account)
