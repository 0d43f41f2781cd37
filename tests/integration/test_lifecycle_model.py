"""Tabs that come, go, break and return at random, on a real server, against a simple model.

The model is `support.ledger`: a session sees all that its kernel says, in order and once. It is
excused from what was on its way when its connection broke off, and from what came when it was away
and was not the kernel's last, or when somebody else came meanwhile.

`KERNELWIRE_MODEL_SECONDS` lets it run for as long, with ever new choices; `KERNELWIRE_MODEL_SEED`
repeats a run's choices; `TESTED_DRIVER=loop` has the event loop do the engine's work.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from threading import Event
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from support import stalling
from support.fake_kernel import script
from support.network import State
from support.server import Server
from support.tabs import Flood, Tabs, World, counted, emit
from support.waiting import wait_until
from support.websocket import ConnectionClosedError, HandshakeRefusedError
from support.ws_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.server import Implementation
    from support.tab import Tab

SECONDS = float(os.environ.get("KERNELWIRE_MODEL_SECONDS", "0"))
# Without a time to fill, the choices are always the same.
SEED = int(os.environ.get("KERNELWIRE_MODEL_SEED", "0")) or (
    random.SystemRandom().getrandbits(32) if SECONDS else 5
)
# What ends a run must come to an end, too.
SLACK_SECONDS = 120
EXAMPLES, STEPS = (10, 40) if SECONDS else (6, 12)
MAX_TABS = 3
# For each life: choices that leave out much else must not be about these alone.
MAX_RESTARTS, MAX_KNOCKS = (3, 3) if SECONDS else (1, 1)
CONFIG = {
    # Outputs come faster than allowed, and more is kept than fits, on purpose: the limits have
    # tests of their own.
    "ZMQChannelsWebsocketConnection": {"limit_rate": False},
    "KernelwireWebsocketConnection": {"max_pending_bytes": 0},
    "KernelwireMappingKernelManager": {"max_offline_buffer_bytes": 0},
    # A client that waits for its turn answers no pings.
    "ServerApp": {"tornado_settings": {"ws_ping_interval": 3_600_000}},
}

picks = st.integers(0, 11)
protocols = st.sampled_from(("v1", "legacy"))
# What the second says to a client of the default protocol, Python must deal with: its dates.
kernels = st.sampled_from(("fake", "fake-offset"))
types = st.sampled_from(("display_data", "stream", "comm_msg"))
# Numbers of outputs and their sizes: the largest fill the sockets between server and client.
floods = st.sampled_from(((1, 0), (1000, 100), (300, 50_000)))
# When a tab goes: at which time of a flood.
moments = st.sampled_from(("while it comes", "unread", "before", "after", "never"))
downs = st.sampled_from((State.SILENT, State.STUCK))
# In what state the connection is that a reload replaces.
old_ones = st.sampled_from(("open", "closing", "broken"))


class Life(RuleBasedStateMachine):
    """What may happen to the tabs of one kernel."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.server = world.server
        self.log_end = self.server.log_end()
        self.tabs: Tabs
        self.is_intact = False
        self.restarts = self.knocks = 0

    # tabs come

    @initialize(kernel_name=kernels, protocol=protocols)
    @counted
    def begin(self, kernel_name: str, protocol: str) -> None:
        """The kernel, and its first tab."""
        self.tabs = Tabs(self.world, kernel_name)
        self.tabs.connect(self.tabs.new_session(), protocol).settle()

    @precondition(lambda self: len(self.tabs.open) < MAX_TABS)
    @rule(protocol=protocols)
    @counted
    def open_tab(self, protocol: str) -> None:
        """A new tab, which discards what was kept for another session."""
        self.tabs.connect(self.tabs.new_session(), protocol).settle()

    @precondition(lambda self: self.tabs.away and len(self.tabs.open) < MAX_TABS)
    @rule(pick=picks, protocol=protocols)
    @counted
    def come_back(self, pick: int, protocol: str) -> None:
        """A session that was away."""
        ledger = self.tabs.away.pop(pick % len(self.tabs.away))
        self.tabs.connect(ledger, protocol).settle()

    @precondition(lambda self: self.tabs.open)
    @rule(pick=picks, protocol=protocols, old=old_ones)
    @counted
    def replace(self, pick: int, protocol: str, old: str) -> None:
        """A reload, with an old connection in which the server still believes, or does not quite."""
        stale = self.tabs.open[pick % len(self.tabs.open)]
        with ExitStack() as nothing:
            self._replace(stale, protocol, old, nothing)

    def _replace(self, stale: Tab, protocol: str, old: str, stall: ExitStack) -> None:
        """Replace a tab's connection; a stall of the loop ends once the new one is asked for."""
        self.tabs.open.remove(stale)
        if old == "closing" and not stale.is_dark:
            stale.client.socket.start_close()
        if old == "broken":
            self.world.faults["reset"] += 1
            stale.network.break_off()
        with ThreadPoolExecutor(1) as pool:
            asked = Event()
            connecting = pool.submit(self.tabs.connect, stale.ledger, protocol, asked.set)
            wait_until(lambda: asked.is_set() or connecting.done(), what="a request to connect")
            stall.close()
            fresh = connecting.result()
        if old != "broken":
            stale.lighten()
        stale.see_rest()
        stale.release()
        # Beside other tabs, the old connection is followed by nothing, if it ends first.
        if old == "broken" or (old == "closing" and len(self.tabs.open) > 1):
            stale.ledger.excuse()
        fresh.settle()

    # tabs go

    @precondition(lambda self: self.tabs.live)
    @rule(pick=picks, clean=st.booleans(), flood=floods, when=moments)
    @counted
    def leave(self, pick: int, clean: bool, flood: Flood, when: str) -> None:
        """A tab that goes at some time of a flood, cleanly or not."""
        self._leave(self.tabs.pick_live(pick), clean, flood, when)

    @precondition(lambda self: self.tabs.live)
    @rule(pick=picks, clean=st.booleans(), flood=floods, when=moments, protocol=protocols)
    @counted
    def reload(self, pick: int, clean: bool, flood: Flood, when: str, protocol: str) -> None:
        """A tab that goes, and is back at once."""
        tab = self.tabs.pick_live(pick)
        self._leave(tab, clean, flood, when)
        self.tabs.wait_for_count()
        self.tabs.away.remove(tab.ledger)
        self.tabs.connect(tab.ledger, protocol).settle()

    def _leave(self, tab: Tab, clean: bool, flood: Flood, when: str) -> None:
        gate = self.world.folder / uuid.uuid4().hex
        if when == "before":
            self.tabs.settle()
            tab.start({"do": "wait_for", "path": str(gate)}, emit(flood))
        elif when != "never":
            tab.start(emit(flood))
        if when == "unread":
            self.server.wait_for_state(self.tabs.kernel_id, "idle")
        elif when == "after":
            self.tabs.settle()
        self.tabs.leave(tab, clean=clean)
        # What was on its way is lost, with a reset, and all that follows where there are others.
        if self.tabs.open or not (clean or when in ("before", "after")):
            tab.ledger.excuse()
        if when == "before":
            self.tabs.wait_for_count()
            gate.touch()
            self.server.wait_for_state(self.tabs.kernel_id, "idle")

    # the network fails

    @precondition(lambda self: self.tabs.live)
    @rule(pick=picks, state=downs, flood=st.none() | floods)
    @counted
    def darken(self, pick: int, state: State, flood: Flood | None) -> None:
        """The network goes down, perhaps in a flood, and the server is not told."""
        self.world.faults["half-open"] += 1
        tab = self.tabs.pick_live(pick)
        if flood is not None:
            tab.start(emit(flood))
        tab.darken(state)
        if flood is not None:
            self.server.wait_for_state(self.tabs.kernel_id, "idle")

    @precondition(lambda self: self.tabs.dark)
    @rule(pick=picks)
    @counted
    def lighten(self, pick: int) -> None:
        """The network comes back."""
        tab = self.tabs.pick_dark(pick)
        tab.lighten()
        tab.settle()

    @precondition(lambda self: self.tabs.dark)
    @rule(pick=picks)
    @counted
    def cut(self, pick: int) -> None:
        """The network tells the server that the client is gone."""
        tab = self.tabs.pick_dark(pick)
        self.tabs.leave(tab, clean=False)
        tab.ledger.excuse()

    # the server's event loop stands still

    @precondition(lambda self: self.tabs.live)
    @rule(
        pick=picks,
        how=st.sampled_from(tuple(stalling.WAYS)),
        flood=floods,
        meanwhile=st.sampled_from(("nothing", "close", "reset", "reload", "darken")),
        is_seen=st.booleans(),
        protocol=protocols,
        old=old_ones,
        state=downs,
    )
    @counted
    def stall(
        self,
        *,
        pick: int,
        how: str,
        flood: Flood,
        meanwhile: str,
        is_seen: bool,
        protocol: str,
        old: str,
        state: State,
    ) -> None:
        """The kernel floods while the loop cannot go on, and something happens to a tab.

        All of the flood ``is_seen`` behind the loop's back, where the engine writes.
        """
        self.world.faults[f"stall, {how}"] += 1
        tab, folder = self.tabs.pick_live(pick), self.world.new_folder()
        gate = folder / "gate"
        flooding = tab.start({"do": "wait_for", "path": str(gate)}, emit(flood))
        with ExitStack() as stack:
            stack.enter_context(stalling.blocked(self.server, folder, how))
            gate.touch()
            if is_seen and self._is_written_by_engine(tab):
                tab.see_until(lambda m: m.is_status("idle", flooding))
            if meanwhile == "close":
                tab.client.socket.start_close()
            elif meanwhile == "reset":
                self.tabs.leave(tab, clean=False)
                tab.ledger.excuse()
            elif meanwhile == "reload":
                self._replace(tab, protocol, old, stack)
            elif meanwhile == "darken":
                self.world.faults["half-open"] += 1
                tab.darken(state)
        if meanwhile == "close":
            self.tabs.leave(tab, clean=True)
            if self.tabs.open:
                tab.ledger.excuse()
        elif meanwhile == "darken":
            self.server.wait_for_state(self.tabs.kernel_id, "idle")
        elif meanwhile == "nothing":
            self.tabs.settle()

    def _is_written_by_engine(self, tab: Tab) -> bool:
        by_python = self.tabs.kernel_name == "fake-offset" and tab.client.protocol == "legacy"
        return self.world.has_engine and not by_python

    # the kernel talks, and ends

    @precondition(lambda self: self.tabs.live)
    @rule(pick=picks, flood=floods, msg_type=types)
    @counted
    def burst(self, pick: int, flood: Flood, msg_type: str) -> None:
        """Outputs as fast as they come, and all of them seen by all tabs."""
        self.tabs.pick_live(pick).start(emit(flood, type=msg_type))
        self.tabs.settle()

    @precondition(lambda self: self.tabs.live)
    @rule(pick=picks, count=st.integers(20, 200))
    @counted
    def tick(self, pick: int, count: int) -> None:
        """Outputs that come while other things happen."""
        self.tabs.pick_live(pick).start({"do": "tick", "count": count})

    @precondition(lambda self: self.tabs.live and self.restarts < MAX_RESTARTS)
    @rule(pick=picks, crash=st.booleans())
    @counted
    def restart(self, pick: int, crash: bool) -> None:
        """A restart, or a crash that the server answers with one."""
        self.restarts += 1
        self.world.faults["crash" if crash else "restart"] += 1
        self.tabs.settle()
        tab = self.tabs.pick_live(pick)
        for ledger in (*self.tabs.away, *(each.ledger for each in self.tabs.open)):
            ledger.expect_end(tab.kernel, tab.position)
        if crash:
            tab.client.start(script({"do": "exit"}))
            for each in self.tabs.live:
                each.see_until(lambda m: m.is_status("restarting"))
        else:
            self.server.restart_kernel(self.tabs.kernel_id)
        for each in self.tabs.live:
            each.meet_new_kernel()
        wait_until(self._is_watched, what="the activity watcher to find the kernel")

    def _is_watched(self) -> bool:
        # The watcher follows executions only.
        self.tabs.pick_live(0).start()
        self.tabs.settle()
        return self.server.kernel(self.tabs.kernel_id)["execution_state"] == "idle"

    # connections that come to nothing

    @precondition(lambda self: self.tabs.open and self.knocks < MAX_KNOCKS)
    @rule(pick=picks)
    @counted
    def knock(self, pick: int) -> None:
        """A handshake that is refused, with the id of an open tab."""
        self.knocks += 1
        self.world.faults["refused"] += 1
        session_id = self.tabs.open[pick % len(self.tabs.open)].ledger.session_id
        foreign = {"Cookie": self.server.login_cookie(), "Origin": "http://evil.example"}
        with pytest.raises(HandshakeRefusedError):
            Client(self.server, self.tabs.kernel_id, session_id=session_id, headers=foreign)

    @precondition(lambda self: self.tabs.away and self.knocks < MAX_KNOCKS)
    @rule(pick=picks, patience=st.sampled_from((0.0005, 0.002, 0.01)))
    @counted
    def falter(self, pick: int, patience: float) -> None:
        """A session that comes back for a moment only, in which it may have taken everything."""
        self.knocks += 1
        self.world.faults["abandoned"] += 1
        ledger = self.tabs.away[pick % len(self.tabs.away)]
        try:
            client = Client(
                self.server,
                self.tabs.kernel_id,
                session_id=ledger.session_id,
                handshake_timeout=patience,
            )
        except (TimeoutError, ConnectionClosedError):
            pass
        else:
            client.reset()
        for each in self.tabs.away:
            each.excuse()
        # Its handshake may be under way still, and would replace a connection made meanwhile.
        wait_until(
            lambda: self.server.open_connections() <= len(self.tabs.open),
            what="the end of what was abandoned",
        )

    # what must hold

    @invariant()
    def connections_are_counted(self) -> None:
        """The server counts the tabs that it has reason to believe in."""
        self.tabs.wait_for_count()

    def teardown(self) -> None:
        """Let all tabs see the rest and go; then nothing may be left of them."""
        try:
            if self.is_intact:
                self.tabs.leave_all()
        finally:
            self.tabs.release()
        if self.is_intact:
            self.world.check_rest()
            assert "Traceback" not in self.server.log(self.log_end)


def live(world: World, number: int) -> None:
    """Let a number of kernels and their tabs live, as random choices with that seed want it."""
    run_state_machine_as_test(
        seed(SEED + number)(lambda: Life(world)),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            database=None,
            deadline=None,
            # What times decide cannot be made smaller by trying again.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def server(implementation: Implementation, tmp_path: Path) -> Iterator[Server]:
    """A server of its own, whose loop can be blocked."""
    home = tmp_path / "server"
    home.mkdir()
    server = Server(home, *stalling.stallable(implementation, CONFIG))
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.kernelwire_only("H5", "H6", "H7", "H8", "H9", "H16", "H29")
@pytest.mark.timeout(SECONDS + SLACK_SECONDS)
def test_connections_when_tabs_come_and_go_at_random_then_the_model_holds(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stops the failures of life cycles that nobody thought of."""
    world = World(server, tmp_path)
    until = time.monotonic() + SECONDS
    violations = 1
    try:
        for number in count():
            live(world, number)
            if time.monotonic() >= until:
                break
        violations = 0
    finally:
        with capsys.disabled():
            driver = "the engine" if world.has_engine else "the loop"
            print(f"\nmodel, {driver}: {world.summary()}, {SECONDS=}, {SEED=}, {violations=}")  # noqa: T201
            if violations:
                print("the last steps:", *world.history[-30:], sep="\n  ")  # noqa: T201
