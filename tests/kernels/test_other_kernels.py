"""Kernels that are not ipykernel: what they say is shown as stock shows it, odd messages included.

Run by ``nox --session kernels``, which installs those of PyPI; IRkernel is Debian's ``r-cran-irkernel``.
"""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from jupyter_kernel_client import JupyterKernelClient

from support.server import IMPLEMENTATIONS, Server
from support.ways import linked
from support.ws_client import Client, Execution

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.messages import Message

LINES = 500
STOCK, OURS = IMPLEMENTATIONS["stock"], IMPLEMENTATIONS["kernelwire"]


@dataclass(frozen=True)
class Kernel:
    """A kernel, and cells for it."""

    value: str
    """Shows 42, one way or the other."""
    lines: str
    """Prints the numbers below ``LINES``."""
    wrong: str
    """Fails."""
    argv: tuple[str, ...] = ()
    """What starts it, where nothing has installed its specification."""
    needs: str = ""
    """The program that it needs, or its module."""
    installs: str = ""
    """The command that installs it."""


DENO = shutil.which("deno", path=f"{sys.prefix}/bin") or "deno"
FOR = f"for n in range({LINES}): print(n)"
KERNELS = {
    "xpython": Kernel("6 * 7", FOR, "1 / 0"),
    "bash": Kernel(
        "echo $((6 * 7))",
        f"seq 0 {LINES - 1}",
        "no_such_command",
        argv=(sys.executable, "-m", "bash_kernel", "-f", "{connection_file}"),
        needs="bash",
        installs="apt-get install bash",
    ),
    "calysto_scheme": Kernel(
        "(* 6 7)",
        f'(define f (lambda (n) (if (< n {LINES}) (begin (printf "~a\\n" n) (f (+ n 1))))))\n(f 0)',
        "(no-such-function)",
    ),
    "deno": Kernel(
        "6 * 7",
        f"for (let n = 0; n < {LINES}; n++) console.log(n)",
        "throw new Error('wrong')",
        argv=(DENO, "jupyter", "--kernel", "--conn", "{connection_file}"),
        needs=DENO,
        installs="pip install deno",
    ),
    "ir": Kernel(
        "6 * 7",
        f'for (n in 0:{LINES - 1}) cat(n, "\\n", sep = "")',
        "stop('wrong')",
        needs="R",
        installs="apt-get install r-cran-irkernel",
    ),
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Stock's server and ours, with these kernels."""
    with ExitStack() as stack:
        started = []
        for implementation in (STOCK, OURS):
            home = tmp_path_factory.mktemp(implementation.name)
            server = Server(home, implementation, linked(implementation, {}))
            stack.callback(server.stop)
            for name, kernel in KERNELS.items():
                if kernel.argv:
                    folder = home / "data" / "kernels" / name
                    folder.mkdir()
                    spec = {"argv": kernel.argv, "display_name": name, "language": name}
                    (folder / "kernel.json").write_text(json.dumps(spec))
            started.append(server)
        yield started


@pytest.fixture(params=KERNELS)
def name(request: pytest.FixtureRequest) -> str:
    """Each kernel in turn."""
    kernel = KERNELS[request.param]
    if kernel.needs and shutil.which(kernel.needs) is None:
        pytest.skip(f"{kernel.needs} is missing: {kernel.installs}")
    return request.param


def run(client: Client, code: str, shows: str = "") -> Execution:
    """Run a cell until it has replied, is idle, and has shown a text; deno shows some of it after that."""
    msg_id, missing = client.start(code), {"reply", "idle", shows}

    def is_complete(message: Message) -> bool:
        if message.parent_id == msg_id:
            missing.discard("reply" if message.channel == "shell" else "")
            missing.difference_update([message.content.get("execution_state")])
            if message.msg_type not in ("execute_input", "execute_reply"):
                missing.difference_update([shows] if shows in json.dumps(message.content) else [])
        return not missing

    return Execution(msg_id, client.messages(is_complete))


def shown(execution: Execution) -> list[Any]:
    """What belongs to a cell, channel by channel, and its text apart: chunks are as timing has it."""
    own = [m for m in execution.messages if m.parent_id == execution.request_id]
    rest = [(m.msg_type, m.content) for m in own if m.msg_type != "stream" and m.channel == "iopub"]
    replies = [(m.msg_type, m.content | {"started": None}) for m in own if m.channel == "shell"]
    # Where a read of bash_kernel's ends between "\r" and "\n", it shows a "\r" more.
    return [execution.text("stdout").split(), execution.text("stderr").split(), rest, replies]


def test_cells_when_the_kernel_is_another_then_they_are_shown_as_stock_shows_them(
    servers: list[Server], name: str, protocol: str
) -> None:
    """Stops what kernels of other languages say in their own way from being lost or changed."""
    kernel = KERNELS[name]
    seen = []
    for server in servers:
        kernel_id = server.start_kernel(name)
        client = Client(server, kernel_id, protocol=protocol).settle()
        executions = [
            run(client, kernel.value, "42"),
            run(client, kernel.lines, str(LINES - 1)),
            run(client, kernel.wrong),
        ]
        assert executions[1].text().split() == [str(n) for n in range(LINES)]
        seen.append([shown(each) for each in executions])
        client.close()
        server.delete_kernel(kernel_id)
    stock, ours = seen
    for theirs, our in zip(stock, ours, strict=True):
        assert our == theirs


def test_clients_when_the_kernel_is_another_then_none_is_told_what_nobody_asked(
    servers: list[Server], name: str
) -> None:
    """Stops greetings of sockets, and answers to our own questions, from reaching clients (N13)."""
    server = servers[1]
    kernel_id = server.start_kernel(name)
    clients = [Client(server, kernel_id).settle() for _ in range(3)]
    messages = [m for each in clients for m in run(each, KERNELS[name].value, "42").messages]
    asked = set().union(*(client.sent_ids for client in clients))
    foreign = [m for m in messages if m.parent_id not in asked]
    assert {m.msg_type for m in foreign} <= {"status"}
    for client in clients:
        client.close()
    server.wait_for_state(kernel_id, "idle")
    server.delete_kernel(kernel_id)
    assert "Traceback" not in server.log()


def test_client_when_the_kernel_greets_its_subscribers_then_it_runs_cells(
    servers: list[Server],
) -> None:
    """Stops ``jupyter_kernel_client`` from dying of a message without a parent (N13)."""
    server = servers[1]
    url = f"http://127.0.0.1:{server.port}"
    for _ in range(3):
        client = JupyterKernelClient(server_url=url, token=server.token)
        client.start(name="xpython")
        outputs = client.execute("print(6 * 7)")["outputs"]
        assert "".join(each["text"] for each in outputs) == "42\n"
        client.stop()
