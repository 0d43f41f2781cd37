"""Voilà as an application of its own, which has to be told to use kernelwire."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support import ways
from support.voila import Voila
from support.ws_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.ws_client import Execution

CELL = """
from IPython.display import display
from ipykernel.comm import Comm

def flood(comm, message):
    kernel = get_ipython().kernel
    parent = message["header"]
    content = {"code": "secret", "execution_count": 1}
    kernel.session.send(kernel.iopub_socket, "execute_input", content, parent=parent)
    for number in range(message["content"]["data"]["count"]):
        display(number)

get_ipython().kernel.comm_manager.register_target("flood", flood)
print("the", "page")
"""
"""What a widget's message from the browser makes a kernel do, with an input that a page must not see."""

ENGINE = "kernelwire"
"""The name of the thread that reads kernels."""

OURS = "kernelwire.connection.websocket.KernelwireWebsocketConnection"
OUR_MANAGER = "kernelwire.kernels.manager.KernelwireMappingKernelManager"
"""Whose names ``status`` gives."""


@pytest.fixture(scope="module", params=[False, True], ids=["stock", "kernelwire"])
def voila(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Voila, bool]]:
    """A running one, and whether it was told to use kernelwire."""
    running = Voila(tmp_path_factory.mktemp("voila"), [CELL], is_on=request.param)
    yield running, request.param
    running.stop()


def flood(client: Client, count: int) -> Execution:
    """Have the page's kernel flood, as a widget does; all that came until it was idle."""
    data = {"comm_id": f"flood {count}", "target_name": "flood", "data": {"count": count}}
    return client.until_idle(client.send("shell", "comm_open", data), timeout=30)


def shown(execution: Execution) -> list[int]:
    """The numbers that a page was given to show."""
    outputs = execution.of_type("display_data")
    return [int(each.content["data"]["text/plain"]) for each in outputs]


def test_page_when_it_is_flooded_then_all_but_inputs_arrives(
    voila: tuple[Voila, bool], protocol: str
) -> None:
    """Stops the rule of Voilà's handler, that a page is shown no code, from being passed by."""
    running, _ = voila
    client = Client(running, running.open_page(), protocol=protocol).settle()
    execution = flood(client, ways.FLOOD)
    assert shown(execution) == list(range(ways.FLOOD))
    # The handler does not read what is JSON throughout, with either implementation.
    assert bool(execution.of_type("execute_input")) == (protocol == "legacy")
    client.close()
    assert "Traceback" not in running.log()


def test_page_when_output_is_over_the_limits_then_kernelwire_shows_all(
    voila: tuple[Voila, bool],
) -> None:
    """Stops a configuration that is read and does nothing."""
    running, is_on = voila
    client = Client(running, running.open_page()).settle()
    count = 2 * ways.FLOOD
    try:
        numbers = shown(flood(client, count))
    except TimeoutError:
        # Stock may drop the status that ends it as well.
        numbers = []
    assert (numbers == list(range(count))) == is_on
    client.close()
    assert ("IOPub message rate exceeded" in running.log()) != is_on
    assert (ENGINE in running.threads()) == is_on


def status(running: Voila, **environment: str) -> tuple[int, str]:
    """Ask ``jupyter kernelwire status`` what a Voilà of the same configuration would use."""
    run = subprocess.run(
        [sys.executable, "-m", "kernelwire.cli", "status", "--app=voila"],
        env=running.environment(**environment),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return run.returncode, run.stdout + run.stderr


def test_status_when_asked_about_voila_then_it_says_what_it_would_use(
    voila: tuple[Voila, bool],
) -> None:
    """Stops a user from believing that an installation alone has Voilà use kernelwire."""
    running, is_on = voila
    code, text = status(running)
    assert (code == 0) == is_on, text
    assert (f"kernel_websocket_connection_class\n    {OURS}\n" in text) == is_on
    assert (f"multi_kernel_manager_class\n    {OUR_MANAGER}\n" in text) == is_on
    remedy = f"two lines in {running.config / 'voila.py'} have it use kernelwire's"
    assert (remedy in text) != is_on
    assert ("receiving\n    not at all" in text) != is_on


def test_status_when_switched_off_then_voila_keeps_its_own_classes(
    voila: tuple[Voila, bool],
) -> None:
    """Stops a switch that a configured Voilà does not follow."""
    code, text = status(voila[0], KERNELWIRE="off")
    assert (code, OURS in text) == (1, False)
    assert "note: KERNELWIRE=off is set" in text
