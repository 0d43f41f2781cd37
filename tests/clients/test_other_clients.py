"""Programs of others that talk to a server's kernels: from JupyterLab's package to code executors.

Run by ``nox --session clients``, which installs them.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
import websocket
from jupyter_kernel_client import JupyterKernelClient
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.gateway.managers import GatewayKernelManager
from nbclient import NotebookClient

from support import cells, ways
from support.fake_kernel import emit, script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.server import Server, StartKernel, StartServer

SERVICES = Path(__file__).with_name("services.js")
V1 = "v1.kernel.websocket.jupyter.org"


def url_of(server: Server) -> str:
    """The address of a server."""
    return f"http://127.0.0.1:{server.port}"


class TestJupyterlabServices:
    """``@jupyterlab/services`` in Node; JupyterLab, Notebook and VS Code have it."""

    @pytest.mark.parametrize("kernel", ["fake", "python3"])
    def test_cells_floods_and_comms_work(
        self, server: Server, start_kernel: StartKernel, protocol: str, kernel: str
    ) -> None:
        """Stops what it decodes, in either protocol, from being lost or changed."""
        kernel_id = start_kernel(kernel)
        code = script(emit(ways.FLOOD, size=100))
        if kernel == "python3":
            code = f"{cells.ECHO_COMM}\nprint(6 * 7)"
        model = json.dumps({"id": kernel_id, "name": kernel})
        run = subprocess.run(
            ["node", SERVICES, url_of(server), server.token, model, protocol, code],
            env=os.environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        said = json.loads(run.stdout.splitlines()[-1])
        assert said["protocol"] == (V1 if protocol == "v1" else "")
        if kernel == "python3":
            assert (said["text"], said["echo"]) == ("42\n", [2, True, 0])
        else:
            assert said["numbers"] == list(range(ways.FLOOD))


class TestJupyterKernelClient:
    """``jupyter_kernel_client``, which notebooks' agents and consoles have."""

    def test_cells_run_one_after_the_other(self, server: Server) -> None:
        """Stops it from dying of a message that it does not expect, or waiting for one for ever."""
        with JupyterKernelClient(server_url=url_of(server), token=server.token) as client:
            for number in range(5):
                (output,) = client.execute(f"print({number} * 7)")["outputs"]
                assert output["text"] == f"{number * 7}\n"
            reply = client.execute(f"for n in range({ways.FLOOD}): print(n)")
            text = "".join(output["text"] for output in reply["outputs"])
            assert text.split() == [str(n) for n in range(ways.FLOOD)]


class Executor:
    """A code executor's client: the ``websocket-client`` package, the default protocol, one thread."""

    def __init__(self, server: Server, kernel_id: str) -> None:
        self._session = uuid.uuid4().hex
        self._socket: Any = websocket.create_connection(
            f"ws://127.0.0.1:{server.port}/api/kernels/{kernel_id}/channels",
            header=[f"Authorization: token {server.token}"],
            timeout=60,
        )

    def start(self, code: str) -> str:
        """Send a cell, and return its id."""
        msg_id = uuid.uuid4().hex
        header = {"username": "", "version": "5.0", "session": self._session, "msg_id": msg_id}
        message = {
            "header": header | {"msg_type": "execute_request"},
            "parent_header": {},
            "channel": "shell",
            "content": {"code": code, "silent": False, "store_history": True, "allow_stdin": False},
            "metadata": {},
            "buffers": {},
        }
        self._socket.send(json.dumps(message))
        return msg_id

    def collect(self, msg_id: str) -> list[dict[str, Any]]:
        """Read until the cell's idle; what belongs to the cell."""
        found: list[dict[str, Any]] = []
        while True:
            message = json.loads(self._socket.recv())
            if message["parent_header"].get("msg_id") != msg_id:
                continue
            found.append(message)
            if message["content"].get("execution_state") == "idle":
                return found

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class TestCodeExecutors:
    """Clients that write, and read only when they want to know."""

    def test_what_was_not_read_at_once_is_whole(
        self, server: Server, start_kernel: StartKernel
    ) -> None:
        """Stops output from being lost at a client that sleeps, and cells behind it from hanging."""
        executor = Executor(server, start_kernel("fake"))
        for turn in range(3):
            msg_id = executor.start(script(emit(ways.FLOOD // 3, size=1_000)))
            time.sleep(0.5)  # as such a client does, whatever comes
            seen = executor.collect(msg_id)
            numbers = [m["metadata"]["number"] for m in seen if "number" in m["metadata"]]
            first = turn * (ways.FLOOD // 3)
            assert numbers == list(range(first, first + ways.FLOOD // 3))
        executor.close()

    def test_cells_run(self, server: Server, start_kernel: StartKernel) -> None:
        """Stops a header without a date, as theirs is, from being refused."""
        executor = Executor(server, start_kernel())
        for number in range(3):
            seen = executor.collect(executor.start(f"print({number} * 7)"))
            texts = [m["content"]["text"] for m in seen if m["msg_type"] == "stream"]
            assert "".join(texts) == f"{number * 7}\n"
        executor.close()


class TestWholeNotebooks:
    """nbclient, which is what papermill and nbconvert run notebooks with, and a server's kernel."""

    @pytest.fixture
    def open_server(self, start_server: StartServer) -> Iterator[Server]:
        """A server without a token: this client shows none to the websocket."""
        app = {"disable_check_xsrf": True}
        server = start_server({"IdentityProvider": {"token": ""}, "ServerApp": app})
        GatewayClient.clear_instance()
        GatewayClient.instance(url=url_of(server))
        yield server
        GatewayClient.clear_instance()
        server.stop()

    @pytest.mark.usefixtures("open_server")
    def test_each_cell_has_its_output(self) -> None:
        """Stops a notebook that is run unseen from hanging, or missing outputs."""
        new = nbformat.v4
        sources = ["print(6 * 7)", f"for n in range({ways.FLOOD}): print(n)", "1 / 0", "2 + 2"]
        notebook = new.new_notebook(cells=[new.new_code_cell(each) for each in sources])
        NotebookClient(
            notebook, kernel_manager_class=GatewayKernelManager, allow_errors=True, timeout=60
        ).execute()
        first, flood, error, last = (cell.outputs for cell in notebook.cells)
        assert first[0].text == "42\n"
        assert "".join(each.text for each in flood).split() == [str(n) for n in range(ways.FLOOD)]
        assert error[0].ename == "ZeroDivisionError"
        assert last[0].data["text/plain"] == "4"
