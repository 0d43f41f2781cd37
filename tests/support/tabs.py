"""The tabs of one kernel on a server, as the server should know them."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any

from support import stalling
from support.ledger import Ledger
from support.tab import Tab
from support.waiting import wait_until
from support.ws_client import Client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.server import Server

Flood = tuple[int, int]
"""A number of outputs and their size in bytes."""


def emit(flood: Flood, **options: object) -> dict[str, object]:
    """A step that emits numbered outputs."""
    return {"do": "emit", "count": flood[0], "size": flood[1], **options}


@dataclass
class World:
    """A server whose loop can be blocked, and what has been done to it."""

    server: Server
    folder: Path
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    history: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Count the descriptors of a server that has had a kernel and a client."""
        kernel_id = self.server.start_kernel("fake")
        Client(self.server, kernel_id).settle().close()
        self.server.wait_for_connections(kernel_id, 0)
        self.server.delete_kernel(kernel_id)
        wait_until(lambda: self.server.open_connections() == 0, what="the end of all connections")
        self.files = self.server.open_files()
        self.has_engine = self.server.request("GET", stalling.ENGINE_PATH)["driver"]["engine"]

    def new_folder(self) -> Path:
        """A folder with nothing in it."""
        folder = self.folder / uuid.uuid4().hex
        folder.mkdir()
        return folder

    def check_rest(self) -> None:
        """Check that nothing is left of kernels and tabs that are gone."""
        self.server.wait_for_files(self.files)

    def summary(self) -> str:
        """What was done, and how much came of it."""
        counts = dict(self.counts) | {"faults": self.faults.total()}
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        return ", ".join(f"{name} {count}" for name, count in counts.items()) + f" ({kinds})"


class Tabs:
    """Those that are open, in the server's eyes, and the sessions of those that are not."""

    def __init__(self, world: World, kernel_name: str) -> None:
        self.world = world
        self.server = world.server
        self.kernel_name = kernel_name
        self.kernel_id = self.server.start_kernel(kernel_name)
        self.open: list[Tab] = []
        self.away: list[Ledger] = []
        self._ledgers: list[Ledger] = []

    @property
    def live(self) -> list[Tab]:
        """Those whose network is up."""
        return [tab for tab in self.open if not tab.is_dark]

    @property
    def dark(self) -> list[Tab]:
        """Those whose network is down, of which the server knows nothing."""
        return [tab for tab in self.open if tab.is_dark]

    def pick_live(self, pick: int) -> Tab:
        """One of those whose network is up."""
        return self.live[pick % len(self.live)]

    def pick_dark(self, pick: int) -> Tab:
        """One of those whose network is down."""
        return self.dark[pick % len(self.dark)]

    def new_session(self) -> Ledger:
        """A session that has not been there before."""
        self._ledgers.append(Ledger(uuid.uuid4().hex))
        return self._ledgers[-1]

    def connect(
        self, ledger: Ledger, protocol: str, on_asked: Callable[[], object] = lambda: None
    ) -> Tab:
        """A tab of a session; what was kept for other sessions is discarded."""
        self.world.counts["connections"] += 1
        tab = Tab(self.server, self.kernel_id, ledger, protocol, on_asked)
        for other in self.away:
            other.excuse()
        self.open.append(tab)
        return tab

    def leave(self, tab: Tab, *, clean: bool) -> None:
        """Have a tab go."""
        self.world.faults["reset"] += not clean
        self.open.remove(tab)
        self.away.append(tab.ledger)
        if clean:
            tab.close()
        else:
            tab.reset()

    def settle(self) -> None:
        """Have all tabs see all there is, where they can."""
        for tab in self.live:
            tab.settle()

    def wait_for_count(self) -> None:
        """Wait until the server counts as many as there are."""
        self.server.wait_for_connections(self.kernel_id, len(self.open))

    def leave_all(self) -> None:
        """Have all tabs see all there is, and go."""
        for tab in list(self.open):
            if tab.is_dark:
                tab.lighten()
            tab.settle()
            self.leave(tab, clean=True)
            self.wait_for_count()

    def release(self) -> None:
        """End everything, whatever it is doing, and count what was seen."""
        counts = self.world.counts
        counts["lives"] += 1
        counts["sessions"] += len(self._ledgers)
        counts["messages"] += sum(each.messages for each in self._ledgers)
        counts["outputs"] += sum(each.outputs for each in self._ledgers)
        for tab in self.open:
            tab.release()
        self.server.delete_kernel(self.kernel_id)


def counted(step: Callable[..., None]) -> Callable[..., None]:
    """Count a step, and remember whether it went wrong: then there is no end to check."""

    @wraps(step)
    def counting(self: Any, **choices: Any) -> None:
        self.world.counts["steps"] += 1
        self.world.history.append(f"{step.__name__}({choices})")
        self.is_intact = False
        step(self, **choices)
        self.is_intact = True

    return counting
