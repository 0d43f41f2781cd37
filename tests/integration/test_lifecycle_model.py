"""Tabs that come, go, break and return at random, on a real server, against a simple model.

The model: a kernel's outputs are numbered without gaps. A connection sees consecutive numbers. A
session that returns goes on where it left off, provided that it was the kernel's last, that nobody
else came meanwhile, and that nothing was on its way when it broke off; otherwise it may miss some,
but never sees one twice. `KERNELWIRE_MODEL_SECONDS` sets how long it runs, `KERNELWIRE_MODEL_SEED`
repeats a run's choices.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from support.fake_kernel import script
from support.waiting import wait_until
from support.websocket import HandshakeRefusedError
from support.ws_client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from support.messages import Message
    from support.server import Server, StartServer

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("KERNELWIRE_MODEL_SECONDS", "15"))
SEED = int(os.environ.get("KERNELWIRE_MODEL_SEED", "0")) or random.SystemRandom().getrandbits(32)
# What ends a run must come to an end, too.
SLACK_SECONDS = 90
MAX_TABS = 3
# The outputs come faster than the rate limit allows on purpose; that is not what is tested here.
CONFIG = {"ZMQChannelsWebsocketConnection": {"limit_rate": False}}


@dataclass
class Session:
    """What a session has seen, and what it must see next."""

    session_id: str
    kernel: str | None = None
    """The kernel process whose outputs are counted."""
    last: int | None = None
    gap_allowed: bool = True
    client: Client | None = None
    first_of_connection: bool = True

    @property
    def may_skip(self) -> bool:
        """Whether outputs may be missing before the next one."""
        return self.first_of_connection and self.gap_allowed

    def see(self, messages: Sequence[Message]) -> int:
        """Check what has come; returns how many outputs that were."""
        outputs = [m for m in messages if "number" in m.metadata]
        for message in outputs:
            self._see_one(message.header["session"], message.metadata["number"])
        return len(outputs)

    def _see_one(self, kernel: str, number: int) -> None:
        if kernel == self.kernel and self.last is not None:
            right = number > self.last if self.may_skip else number == self.last + 1
            assert right, f"{self.session_id}: {number} after {self.last}, {self.may_skip=}"
        self.kernel, self.last, self.first_of_connection = kernel, number, False


@dataclass
class Model:
    """The server under test, and what is known about it."""

    server: Server
    kernel_id: str
    gates: Path
    choice: random.Random
    tabs: list[Session] = field(default_factory=list)
    away: list[Session] = field(default_factory=list)
    published: int = 0
    kernel: str | None = None
    counts: Counter[str] = field(default_factory=Counter)
    history: list[str] = field(default_factory=list)

    # what can happen

    def open_tab(self) -> None:
        """A new tab, which discards what was kept for another session."""
        if len(self.tabs) < MAX_TABS:
            self.counts["sessions"] += 1
            self._connect(Session(uuid.uuid4().hex))

    def come_back(self) -> None:
        """A session that was away."""
        if self.away and len(self.tabs) < MAX_TABS:
            session = self.choice.choice(self.away)
            self.away.remove(session)
            self._connect(session)

    def replace(self) -> None:
        """A reload whose old connection the server still believes in."""
        if not self.tabs:
            return
        session = self.choice.choice(self.tabs)
        stale = session.client
        session.gap_allowed = session.may_skip
        self.tabs.remove(session)
        fresh = self._open(session.session_id)
        self._see(session, stale.rest()[0])
        stale.reset()
        session.client, session.first_of_connection = fresh, True
        self.tabs.append(session)
        self._settle(session)

    def close_tab(self) -> None:
        """A clean end."""
        if self.tabs:
            self._leave(self.choice.choice(self.tabs), clean=True, pending=0)

    def break_tab(self) -> None:
        """A broken connection; what is on its way may be lost."""
        if self.tabs:
            self.counts["faults"] += 1
            self._leave(self.choice.choice(self.tabs), clean=False, pending=0)

    def leave_running(self) -> None:
        """A tab that goes while a cell is running, and misses its output."""
        if self.tabs:
            clean = self.choice.random() < 0.5
            self.counts["faults"] += not clean
            self._quiesce()
            self._leave(self.choice.choice(self.tabs), clean=clean, pending=self._burst_size())

    def burst(self) -> None:
        """Outputs as fast as they come, and all of them seen by all tabs."""
        if self.tabs:
            count = self._burst_size()
            tab = self.choice.choice(self.tabs)
            self._see(tab, tab.client.execute(script({"do": "emit", "count": count})).messages)
            self.published += count
            self._quiesce()

    def tick(self) -> None:
        """Outputs that come while other things happen."""
        if self.tabs:
            self._quiesce()
            tab = self.choice.choice(self.tabs)
            count = self.choice.randint(50, 300)
            self._see(tab, tab.client.execute(script({"do": "tick", "count": count})).messages)
            self.published += count

    def restart(self) -> None:
        """A restart, or a crash that the server answers with one."""
        if not self.tabs:
            return
        self._quiesce()
        self.counts["faults"] += 1
        if self.choice.random() < 0.5:
            self.server.restart_kernel(self.kernel_id)
        else:
            self.tabs[0].client.start(script({"do": "exit"}))
            for tab in self.tabs:
                self._see(tab, tab.client.messages(until=lambda m: m.is_status("restarting")))
        self.published, self.kernel = 0, None
        for tab in self.tabs:
            tab.client.meet_new_kernel()
            tab.last = None
        # Nobody has waited until the sockets of those away had found the new kernel.
        for session in self.away:
            session.last, session.gap_allowed = None, True

    def knock(self) -> None:
        """A handshake that is refused, with the id of a live tab."""
        if self.tabs:
            self.counts["faults"] += 1
            session_id = self.choice.choice(self.tabs).session_id
            foreign = {"Cookie": self.server.login_cookie(), "Origin": "http://evil.example"}
            with pytest.raises(HandshakeRefusedError):
                Client(self.server, self.kernel_id, session_id=session_id, headers=foreign)

    # how it happens

    def step(self) -> None:
        """Let something happen, and check the count."""
        action = self.choice.choices(*zip(*ACTIONS.items(), strict=True))[0]
        self.history.append(action.__name__)
        self.counts["steps"] += 1
        action(self)
        self.server.wait_for_connections(self.kernel_id, len(self.tabs))

    def leave_all(self) -> None:
        """Close all tabs."""
        while self.tabs:
            self._leave(self.tabs[0], clean=True, pending=0)
        self.server.wait_for_connections(self.kernel_id, 0)

    def _burst_size(self) -> int:
        return self.choice.choice((1, 10, 100, 1000))

    def _open(self, session_id: str) -> Client:
        protocol = self.choice.choice(("v1", "v1", "legacy"))
        return Client(self.server, self.kernel_id, session_id=session_id, protocol=protocol)

    def _connect(self, session: Session) -> None:
        session.client, session.first_of_connection = self._open(session.session_id), True
        # Its buffer, if it had one, is its own now; whatever was kept for others is gone.
        for other in self.away:
            other.gap_allowed = True
        self.tabs.append(session)
        self._settle(session)

    def _settle(self, session: Session) -> None:
        """Wait until the tab is in the picture: from here on it must see everything."""
        execution = session.client.ask("control", "kernel_info_request", {})
        self._see(session, execution.messages)
        self.kernel = next(m for m in execution.messages if m.parent_id).header["session"]

    def _see(self, session: Session, messages: Sequence[Message]) -> None:
        self.counts["messages"] += session.see(messages)

    def _quiesce(self) -> None:
        """Wait until all tabs have seen all there is."""
        for tab in self.tabs:
            if self.published and not (tab.last == self.published - 1 and self._is_current(tab)):
                self._catch_up(tab)

    def _catch_up(self, tab: Session) -> None:
        last = self.published - 1
        # A tab may have come after the last output: then none will come.
        execution = tab.client.ask("control", "kernel_info_request", {})
        self._see(tab, execution.messages)
        if not tab.may_skip and self._is_current(tab) and tab.last is not None and tab.last < last:
            until = tab.client.messages(until=lambda m: m.metadata.get("number") == last)
            self._see(tab, until)

    def _is_current(self, tab: Session) -> bool:
        return tab.kernel == self.kernel

    def _leave(self, session: Session, *, clean: bool, pending: int) -> None:
        is_last = len(self.tabs) == 1
        client, gate = session.client, self.gates / uuid.uuid4().hex
        if pending:
            steps = {"do": "wait_for", "path": str(gate)}, {"do": "emit", "count": pending}
            msg_id = client.start(script(*steps))
            self._see(session, client.messages(until=lambda m: m.is_status("busy", msg_id)))
        if clean:
            client.socket.start_close()
            self._see(session, client.rest()[0])
        client.reset()
        self.tabs.remove(session)
        self.away.append(session)
        session.client = None
        self.server.wait_for_connections(self.kernel_id, len(self.tabs))
        session.gap_allowed = session.may_skip or not is_last or not (clean or pending)
        if pending:
            gate.touch()
            self.published += pending
            self.server.wait_for_state(self.kernel_id, "idle")
            self._quiesce()


ACTIONS: dict[Callable[[Model], None], int] = {
    Model.open_tab: 4,
    Model.come_back: 12,
    Model.replace: 4,
    Model.close_tab: 4,
    Model.break_tab: 3,
    Model.leave_running: 6,
    Model.burst: 6,
    Model.tick: 6,
    Model.restart: 1,
    Model.knock: 1,
}


@pytest.mark.kernelwire_only("H5", "H6", "H7", "H9", "H16", "H29")
@pytest.mark.timeout(SECONDS + SLACK_SECONDS)
def test_connections_when_tabs_come_and_go_at_random_then_the_model_holds(
    start_server: StartServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stops the failures of life cycles that nobody thought of."""
    server = start_server(CONFIG)
    model = Model(server, server.start_kernel("fake"), tmp_path, random.Random(SEED))
    model.open_tab()
    model.leave_all()
    files, violations = server.open_files(), 1
    until = time.monotonic() + SECONDS
    try:
        while time.monotonic() < until:
            model.step()
            if model.counts["steps"] % 50 == 0:
                check_files(model, files)
        check_files(model, files)
        assert "Traceback" not in server.log()
        violations = 0
    finally:
        for tab in model.tabs:
            tab.client.reset()
        counts = dict(model.counts) | {"seconds": SECONDS, "seed": SEED, "violations": violations}
        with capsys.disabled():
            print(  # noqa: T201 (the summary is what a long run is for)
                "\nmodel:", ", ".join(f"{name} {count}" for name, count in counts.items())
            )
            if violations:
                print("the last steps:", *model.history[-20:])  # noqa: T201
    server.delete_kernel(model.kernel_id)


def check_files(model: Model, files: int) -> None:
    """Check that the server holds no more descriptors than it did in the beginning."""
    model.leave_all()
    wait_until(
        lambda: model.server.open_files() <= files + 2, what=f"no more than {files} descriptors"
    )
