"""A server under measurement, in a process and a directory of its own, on loopback."""

from __future__ import annotations

import http.client
import json
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kernelwire.bench import procstat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType
    from typing import Self

ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Signals that ask a program to end, as far as the system has them."""
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0


class ServerError(Exception):
    """The server did not start, did not answer, or answered with an error."""


class Host(ABC):
    """One server; use as a context manager, which also ends it on Ctrl-C."""

    cpu: int | None = None
    """The core the server has to itself; None leaves everything to the scheduler."""

    probe = "/api/status"
    """What a server answers once it is up."""

    default_protocol = False
    """Whether it can be spoken to in the default protocol only."""

    def __init__(self) -> None:
        self.token = secrets.token_hex(16)
        self.root = Path(tempfile.mkdtemp(prefix="kernelwire-bench-"))
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def prepare(self) -> None:
        """Write the files that the server needs below `root`."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command that starts the server."""

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """Return the server's environment."""

    @abstractmethod
    def announced_port(self) -> int:
        """Return the port that the server chose, or 0 if that is not known yet."""

    @abstractmethod
    def start_kernel(self, name: str = "flood") -> str:
        """Start a kernel; returns its id."""

    def end_kernel(self, kernel_id: str) -> None:
        """End a kernel that `start_kernel` has started."""
        self.request("DELETE", f"/api/kernels/{kernel_id}")

    @contextmanager
    def kernel(self) -> Iterator[str]:
        """Lend a flooding kernel; on a server that is kept for other cases it must not stay."""
        kernel_id = self.start_kernel()
        try:
            yield kernel_id
        finally:
            self.end_kernel(kernel_id)

    @abstractmethod
    def connection_file(self, kernel_id: str) -> dict[str, Any]:
        """Ports and key of a kernel, for speaking to it without the server."""

    def answers(self) -> bool:
        """Whether the server is up."""
        try:
            self.request("GET", self.probe)
        except OSError:
            return False
        return True

    def check(self) -> None:  # noqa: B027 (not every server can be asked)
        """Refuse to measure one thing under another's name."""

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            raise ServerError("the server is not running")
        return self._process.pid

    def __enter__(self) -> Self:
        """Start, and clean up if that fails: ``__exit__`` is not called then."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the server, whatever happened."""
        self.stop()

    def _start(self) -> None:
        self.prepare()
        with (self.root / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.root,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C must reach this process alone, which then ends the server in order.
                start_new_session=True,
            )
        self._wait_until_up()
        self.check()
        if self.cpu is not None:
            procstat.pin(self.pid, self.cpu)

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            if not self.port:
                self.port = self.announced_port()
            elif self.answers():
                return
            time.sleep(0.05)
        raise ServerError(f"the server did not start:\n{self.log_tail()}")

    def log_tail(self, lines: int = 15) -> str:
        """Return the end of the server's log."""
        log = self.root / "server.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One REST call; returns the decoded JSON answer, or None if it is empty."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {"Authorization": f"token {self.token}", "Content-Type": "application/json"}
            text = None if body is None else json.dumps(body)
            connection.request(method, path, body=text, headers=headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise ServerError(f"{method} {path}: {response.status} {content[:300]!r}")
        return json.loads(content) if content else None

    def stop(self) -> None:
        """End the server and its kernels and remove every file it wrote."""
        with uninterrupted():
            self._stop()

    def _stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()  # the kernels notice that their parent is gone
                self._process.wait()
        shutil.rmtree(self.root, ignore_errors=True)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Have signals that would end the program wait until servers are ended."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_on_signals() -> None:
    """Raise `KeyboardInterrupt` on the first signal that asks for an end, and ignore the others.

    A closed terminal and a ``kill`` must end the servers as Ctrl-C does, and a second Ctrl-C must
    not interrupt what the first one has begun.
    """
    for number in ENDING:
        # Who called it with nohup wants it to outlive the terminal.
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end_once)


def end_once(number: int, frame: FrameType | None) -> None:
    """Handle the first signal."""
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)
    signal.default_int_handler(number, frame)


AnyHost = TypeVar("AnyHost", bound=Host)


@contextmanager
def running(host: AnyHost) -> Iterator[AnyHost]:
    """Start a server and let it settle: start-up work is nobody's cost per message."""
    with host:
        procstat.settle(host.pid)
        yield host
