"""A real ipykernel that emits faster than the default limits let it: nothing of it is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.fake_kernel import emit, script

if TYPE_CHECKING:
    from support.server import StartKernel, StartServer
    from support.ws_client import Client, Connect, Execution

PATIENCE = 90.0
"""Seconds that a flood may take: 20 at the default limits, on a machine that does nothing else."""

KERNELS = 50

pytestmark = pytest.mark.slow


def flood(client: Client, code: str) -> Execution:
    """What becomes of a cell; the server says nothing in it."""
    execution = client.execute(code, timeout=PATIENCE)
    assert execution.messages[-1].is_status("idle") or execution.messages[-2].is_status("idle")
    assert execution.text("stderr") == ""
    return execution


def values(execution: Execution, msg_type: str) -> list[str]:
    """The plain texts of displays."""
    found = execution.of_type(msg_type)
    return [message.content["data"]["text/plain"] for message in found]


@pytest.mark.kernelwire_only("M4")
def test_display_when_it_is_updated_20000_times_then_the_last_step_comes(
    connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops a progress from standing still at a step in the middle."""
    loop = "h = display(0, display_id=True)\nfor step in range(1, 20001): h.update(step)"
    execution = flood(connect(start_kernel()), loop)
    steps = [int(step) for step in values(execution, "update_display_data")]
    assert steps[-1] == 20_000
    assert steps == sorted(steps)


@pytest.mark.kernelwire_only("M4")
def test_displays_when_there_are_5000_then_all_come(
    connect: Connect, start_kernel: StartKernel, protocol: str
) -> None:
    """Stops output from missing because it came fast."""
    client = connect(start_kernel(), protocol=protocol)
    execution = flood(client, "for number in range(5000): display(number)")
    assert values(execution, "display_data") == [*map(str, range(5000))]


@pytest.mark.kernelwire_only("M4")
def test_comm_messages_when_there_are_20000_then_all_come(
    connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops a front end's model from missing what it was told."""
    code = "import comm\nchannel = comm.create_comm(target_name='t')\n"
    code += "for number in range(20000): channel.send(number)"
    execution = flood(connect(start_kernel(), protocol="legacy"), code)
    sent = [message.content["data"] for message in execution.of_type("comm_msg")]
    assert sent == [*range(20_000)]


@pytest.mark.kernelwire_only("I7")
def test_widgets_when_50_are_updated_5000_times_then_each_has_its_last_value(
    connect: Connect, start_kernel: StartKernel, protocol: str
) -> None:
    """Stops widgets from being left at what they were when a limit was reached (voila#534)."""
    code = (
        "import comm\n"
        "widgets = [comm.create_comm(target_name='jupyter.widget') for _ in range(50)]\n"
        "for n in range(5000):\n"
        "    state = {'value': n}\n"
        "    widgets[n % 50].send({'method': 'update', 'state': state, 'buffer_paths': []})"
    )
    execution = flood(connect(start_kernel(), protocol=protocol), code)
    shown: dict[str, int] = {}
    for message in execution.of_type("comm_msg"):
        value = message.content["data"]["state"]["value"]
        assert value > shown.get(message.content["comm_id"], -1)
        shown[message.content["comm_id"]] = value
    assert sorted(shown.values()) == [*range(4950, 5000)]


@pytest.mark.kernelwire_only("N12")
def test_cell_when_its_output_is_cleared_behind_a_flood_then_what_follows_is_shown(
    connect: Connect, start_kernel: StartKernel, protocol: str
) -> None:
    """Stops a cell from ending empty: cleared, for what then did not come."""
    code = "from IPython.display import clear_output\nfor number in range(3500): display(number)\n"
    code += "clear_output(); display('final')"
    execution = flood(connect(start_kernel(), protocol=protocol), code)
    output = ("display_data", "clear_output")
    types = [one.msg_type for one in execution.messages if one.msg_type in output]
    assert types == ["display_data"] * 3500 + ["clear_output", "display_data"]
    assert values(execution, "display_data") == [*map(str, range(3500)), "'final'"]


@pytest.mark.kernelwire_only("M4")
def test_kernels_when_50_flood_at_once_then_each_client_gets_all_of_its_own(
    start_server: StartServer, connect: Connect
) -> None:
    """Stops clients from sharing a limit, or one from waiting for another's turn."""
    limits = {"iopub_msg_rate_limit": 100, "rate_limit_window": 1}
    server = start_server({"ZMQChannelsWebsocketConnection": limits})
    clients = [connect(server.start_kernel("fake"), on=server) for _ in range(KERNELS)]
    requests = [client.start(script(emit(500))) for client in clients]
    for client, request in zip(clients, requests, strict=True):
        execution = client.collect(request, timeout=PATIENCE)
        assert execution.numbers == [*range(500)]
        assert execution.text("stderr") == ""
    for kernel in server.kernels():
        server.delete_kernel(kernel["id"])
