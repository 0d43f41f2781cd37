"""Python cells the tests run in a real ipykernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def wait_for(gate: Path) -> str:
    """Code that goes on when the file exists."""
    return f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.005)\n"


def display_numbers(first: int, count: int) -> str:
    """Code that displays consecutive numbers as fast as it can."""
    return (
        "publish = get_ipython().display_pub.publish\n"
        f"for n in range({first}, {first + count}): publish({{'text/plain': str(n)}})\n"
    )


def print_once(text: str) -> str:
    """Code that prints and makes sure that it is out."""
    return f"print({text!r}, flush=True)\n"


ECHO_COMM = """
def echo(comm, opening):
    def answer(message):
        reversed_buffers = [bytes(b)[::-1] for b in message["buffers"]]
        comm.send(message["content"]["data"], buffers=reversed_buffers)
    comm.on_msg(answer)
    comm.on_close(lambda message: print("closed with", message["content"]["data"]))
    comm.send(opening["content"]["data"], buffers=[bytes(b) for b in opening["buffers"]])
get_ipython().kernel.comm_manager.register_target("echo", echo)
"""

OPEN_COMM = """
from comm import create_comm
comm = create_comm(target_name="front", data={"n": 1}, buffers=[bytes(range(256)), b"", b"x"])
comm.send({"n": 2}, buffers=[bytes(range(256)) * 300])
comm.close({"n": 3})
"""
