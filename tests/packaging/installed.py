"""A check of an installation, for an environment with kernelwire and ipykernel and nothing else.

Starts a real server that nobody has configured, sees that kernelwire is on because it is
installed, and has a kernel compute. ``python tests/packaging/installed.py`` with the environment's
Python; not a test of pytest's, because there is no pytest there.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import websocket  # Jupyter Server depends on it

import kernelwire

TIMEOUT_SECONDS = 60
QUESTION, ANSWER = "print(6 * 7)", "42\n"
TOKEN = secrets.token_hex(16)
HEADERS = {"Authorization": f"token {TOKEN}"}


def environment(home: Path) -> dict[str, str]:
    """The environment of a user who has configured nothing, with the installation's own switch."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JUPYTER", "KERNELWIRE", "PYTHON"))
    }
    folders = {
        f"JUPYTER_{kind.upper()}_DIR": str(home / kind) for kind in ("config", "data", "runtime")
    }
    return inherited | folders | {"JUPYTER_TOKEN": TOKEN}


def address(home: Path, server: subprocess.Popen[bytes]) -> str:
    """Where the server is, once it says so."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit("the server has ended")
        for file in (home / "runtime").glob("jpserver-*.json"):
            try:
                info = json.loads(file.read_text())
            except json.JSONDecodeError:
                continue
            return f"127.0.0.1:{info['port']}"
        time.sleep(0.1)
    raise SystemExit("the server did not start")


def rest(method: str, url: str) -> Any:
    """Ask the server over REST."""
    request = urllib.request.Request(f"http://{url}", method=method, headers=HEADERS)
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        body = response.read()
    return json.loads(body) if body else None


def execute(client: websocket.WebSocket) -> tuple[str, str]:
    """Execute the question: what it printed, and the reply's status."""
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "username": "",
        "session": uuid.uuid4().hex,
        "date": "2026-01-01T00:00:00Z",
        "version": "5.4",
    }
    content = {"code": QUESTION, "silent": False, "store_history": True, "allow_stdin": False}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
    client.send(json.dumps(message | {"channel": "shell", "buffers": []}))
    printed, status, idle = "", "", False
    while not (status and idle):
        answer = json.loads(client.recv())
        if answer["parent_header"].get("msg_id") != header["msg_id"]:
            continue
        content = answer["content"]
        match answer["msg_type"]:
            case "stream":
                printed += content["text"]
            case "execute_reply":
                status = content["status"]
            case "status":
                idle = content["execution_state"] == "idle"
    return printed, status


def check(home: Path, server: subprocess.Popen[bytes]) -> None:
    """Have a kernel compute."""
    host = address(home, server)
    kernel = rest("POST", f"{host}/api/kernels")["id"]
    url = f"ws://{host}/api/kernels/{kernel}/channels"
    with closing(websocket.create_connection(url, TIMEOUT_SECONDS, header=HEADERS)) as client:
        answer = execute(client)
    rest("DELETE", f"{host}/api/kernels/{kernel}")
    if answer != (ANSWER, "ok"):
        raise SystemExit(f"{QUESTION!r} printed {answer[0]!r}, with status {answer[1]!r}")


def main() -> None:
    """Start a server, and stop it whatever comes of it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        home, log = Path(name), Path(name, "log")
        options = ["--ip=127.0.0.1", "--port=0", "--no-browser", "--allow-root"]
        with log.open("wb") as output:
            server = subprocess.Popen(
                [sys.executable, "-m", "jupyter_server", *options],
                cwd=home,
                env=environment(home),
                stdout=output,
                stderr=output,
            )
        try:
            check(home, server)
        finally:
            server.terminate()
            server.wait(TIMEOUT_SECONDS)
            said = log.read_text(errors="replace")
            print(said, end="")  # noqa: T201
    if "kernelwire is on" not in said:
        raise SystemExit("the server did not say that kernelwire is on")
    print(f"kernelwire {kernelwire.__version__} is on, and a kernel computes")  # noqa: T201


if __name__ == "__main__":
    main()
