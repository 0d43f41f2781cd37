"""``jupyter kernelwire status --live``: what goes on in the servers that are running."""

from __future__ import annotations

import json
import socket
import ssl
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from kernelwire._logging import shown
from kernelwire.live import PAGE, PATH

__all__ = ["ask_running", "report_of", "report_of_running"]

SECONDS = 5.0
"""Time that a server has for its answer."""

TROUBLES: dict[int, str] = {
    HTTPStatus.NOT_FOUND: "kernelwire is off",
    HTTPStatus.FORBIDDEN: "it lets nobody in without a login: its file has no token",
}
"""What a server says that does not answer."""


def ask_running() -> tuple[dict[str, dict[str, Any]], bool]:
    """Ask the user's running servers.

    Returns the answers by address, where one without kernelwire or without an answer has an
    ``error``; and whether one has kernelwire on.
    """
    from jupyter_server.serverapp import list_running_servers  # noqa: PLC0415 (takes half a second)

    answers: dict[str, dict[str, Any]] = {}
    asked = False
    for server in list_running_servers():
        said: dict[str, Any] = {}
        try:
            status, said = ask(server)
            trouble = TROUBLES.get(status, f"it answers {status}")
        except (HTTPException, OSError, ValueError) as error:
            trouble = f"it does not answer: {error}"
        asked = asked or bool(said)
        answers[server["url"]] = said or {"error": trouble}
    return answers, asked


def report_of_running(answers: dict[str, dict[str, Any]]) -> list[str]:
    """Put the answers of all servers into lines."""
    lines: list[str] = []
    for url, said in answers.items():
        page = f"    page: {url.rstrip('/')}{PAGE}"
        told = [f"    {said['error']}"] if "error" in said else [page, *report_of(said)]
        lines += [url, *told]
    return lines or ["no server of this user is running"]


def ask(server: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Ask one server, which was found by its file; returns its answer, empty if it gives none."""
    connection = connection_to(server)
    base = urlsplit(server["url"]).path.rstrip("/")
    path = f"{base}{PATH}?no_track_activity=1"
    headers = {"Authorization": f"token {server['token']}"} if server.get("token") else {}
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.load(answer) if answer.status == HTTPStatus.OK else {}
    finally:
        connection.close()


def connection_to(server: dict[str, Any]) -> HTTPConnection:
    """Return a connection to a server in the way in which it listens; it is not open yet."""
    if server.get("sock"):
        return UnixConnection(server["sock"])
    address = urlsplit(server["url"])
    host = address.hostname or "localhost"
    if address.scheme == "https":
        # As `jupyter server stop`: certificates are for the names by which others come.
        context = ssl._create_unverified_context()  # noqa: S323 (as above)
        return HTTPSConnection(host, address.port, timeout=SECONDS, context=context)
    return HTTPConnection(host, address.port, timeout=SECONDS)


class UnixConnection(HTTPConnection):
    """A connection to a server that listens on a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(self._path)


def report_of(said: dict[str, Any]) -> list[str]:
    """Put an answer into lines: the server, its kernels, and how far each of their clients is."""
    driver = f"{said['driver']}, because " if said["driver"] else "none, as "
    lines = [f"    driver: {driver}{said['reason']}"]
    if said["turns"] is not None:
        lines.append(f"    engine: {counted(said['turns'], 'turn')}")
    for kernel_id, kernel in said["kernels"].items():
        log = "no log"
        if "entries" in kernel:
            size = f"{counted(kernel['entries'], 'entry', 'entries')}, {counted(kernel['bytes'], 'byte')}"
            log = (
                f"{size}, {kernel['received']} received, life {kernel['life']}, read by the"
                f" {kernel['driver']}"
            )
        lines.append(f"    kernel {kernel_id}: {log}")
        for kind, title in (("clients", "client"), ("away", "away")):
            for session, each in kernel.get(kind, {}).items():
                lines.append(f"        {title} {session}: {_lag(each)}")
    for kernel_id, relays in said.get("relays", {}).items():  # of an older version, none
        lines.append(f"    kernel {kernel_id}: on the gateway")
        lines += [line for each in relays for line in _relayed(each)]
    return lines


def counted(number: int, noun: str, nouns: str = "") -> str:
    """Return a number with what it counts, as ``nouns`` where that is not ``noun`` with an s."""
    return f"{number} {noun if number == 1 else nouns or noun + 's'}"


def _relayed(each: dict[str, Any]) -> list[str]:
    link = f"link {each['link']} for {each['seconds']:.1f} s, {counted(each['outages'], 'outage')}"
    pause = ", paused until the browser reads" if each["paused"] else ""
    received = f"{counted(each['messages'], 'message')}, {counted(each['bytes'], 'byte')}"
    sent = f"{counted(each['requests'], 'request')}, {counted(each['request_bytes'], 'byte')}"
    kept_bytes = counted(each["kept_bytes"], "byte")
    kept = f"{counted(each['kept_requests'], 'request')} of {kept_bytes} waiting until it is back"
    client = f"{shown(each['session'])}: {each['protocol'] or 'default protocol'}"
    # Older versions do not say.
    relay = f", passed on by the {each['relay']}" if each.get("relay") else ""
    return [
        f"        client {client}, {link}{relay}{pause}",
        f"            from the gateway: {received}; {counted(each['pending_bytes'], 'byte')} waiting for the browser",
        f"            to the gateway: {sent}; {counted(each['unsent_bytes'], 'byte')} waiting for it, {kept}",
    ]


def _lag(each: dict[str, Any]) -> str:
    size = f"{counted(each['messages'], 'message')}, {counted(each['bytes'], 'byte')}"
    lag = f"{size}, {each['seconds']:.1f} s behind"
    written = f", written by the {each['driver']}" if each["driver"] else ""
    return f"{lag}, waits for {each['waits_for']}{written}"
