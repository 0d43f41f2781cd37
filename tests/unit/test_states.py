"""``execution_state_policy="true"``: a kernel is busy until all that it runs has become idle."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.watching import KERNEL_ID, WAYS, Watching, date_of, header, parts, status

if TYPE_CHECKING:
    from collections.abc import Callable

START = datetime(2026, 1, 1, tzinfo=UTC)
LATER = START + timedelta(hours=1)

pytestmark = pytest.mark.kernelwire_only("I2")
each_way = pytest.mark.parametrize("way", WAYS[1:])

IGNORED = (
    "usage_request",
    "create_subshell_request",
    "delete_subshell_request",
    "list_subshell_request",
)


def report(
    state: str,
    parent_type: str | None,
    parent_id: str | None = None,
    *,
    subshell: str | None = None,
    session: str = "s",
    **fields: Any,
) -> list[bytes]:
    """Make the parts of a status with that parent; ``fields`` go to its header."""
    message = status(state, None, session=session, **fields)
    if parent_type is not None:
        parent = header(parent_type, msg_id=parent_id, session="client")
        if subshell is not None:
            parent["subshell_id"] = subshell
        message[1] = json.dumps(parent).encode()
    return message


def watching(body: Callable[[Watching, list[datetime]], None], way: str, **options: Any) -> None:
    """Run ``body`` with a watched kernel and its clock."""

    async def run() -> None:
        now = [START]
        with date_of(now):
            watched = Watching(way, execution_state_policy="true", **options)
            try:
                body(watched, now)
            finally:
                watched.close()

    asyncio.run(run())


def states(watched: Watching, *messages: list[bytes]) -> list[str]:
    """Return the state after each of these messages."""
    seen = []
    for message in messages:
        watched.deliver([watched.signed(message)])
        seen.append(watched.kernel.execution_state)
    return seen


@each_way
@pytest.mark.parametrize("request_type", IGNORED)
def test_ignored_requests_change_neither_state_nor_dates(way: str, request_type: str) -> None:
    """A resource monitor's question does not end a running cell, nor keep a kernel alive."""

    def body(watched: Watching, now: list[datetime]) -> None:
        assert states(watched, report("busy", "execute_request", "a")) == ["busy"]
        before = watched.seen
        now[0] = LATER
        messages = [
            report("busy", request_type, "b"),
            report("idle", request_type, "b"),
            parts("iopub_welcome"),
        ]
        assert states(watched, *messages) == ["busy"] * 3
        assert watched.seen == before
        assert states(watched, report("idle", "execute_request", "a")) == ["idle"]
        assert watched.kernel.last_activity == LATER

    watching(body, way, state="idle")


@each_way
def test_other_channels_do_not_end_what_the_shell_runs(way: str) -> None:
    """Subshells, comm messages and unknown control requests come and go while a cell runs."""

    def body(watched: Watching, _: list[datetime]) -> None:
        cell = ("execute_request", "a")
        others: list[tuple[tuple[str, str], dict[str, Any]]] = [
            (("execute_request", "b"), {"subshell": "x"}),
            (("comm_msg", "c"), {}),
            (("custom_request", "d"), {}),
        ]
        assert states(watched, report("busy", *cell)) == ["busy"]
        for other, options in others:
            messages = [report(state, *other, **options) for state in ("busy", "idle")]
            assert states(watched, *messages) == ["busy"] * 2
        assert states(watched, report("idle", *cell)) == ["idle"]

    watching(body, way, state="idle")


@each_way
@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([("busy", "execute_request", "a"), ("busy", "complete_request", "b"),
          ("idle", "complete_request", "b")], "idle"),
        ([("busy", "comm_msg", "a"), ("busy", "execute_request", "b"),
          ("idle", "execute_request", "b")], "idle"),
        ([("busy", "execute_request", "a"), ("idle", None)], "idle"),
        ([("busy", None), ("idle", "execute_request", "a")], "idle"),
        ([("busy", None), ("idle", None)], "idle"),
        ([("busy", "execute_request", None), ("idle", "execute_request", None)], "idle"),
        ([("busy", "execute_request", "a"), ("busy", None)], "busy"),
        ([("busy", "execute_request", "a"), ("weird", None)], "weird"),
    ],
)  # fmt: skip
def test_state_comes_to_rest_without_ids_and_lost_idles(
    way: str, messages: list[Any], expected: str
) -> None:
    """A lost idle, a kernel that leaves parents out, or ids, do not leave it busy for good."""

    def body(watched: Watching, _: list[datetime]) -> None:
        assert states(watched, *(report(*message) for message in messages))[-1] == expected

    watching(body, way, state="idle")


@each_way
def test_another_process_is_starting_and_the_former_does_not_count(way: str) -> None:
    """A kernel that restarts by itself has nothing running, whatever its former life had."""

    def body(watched: Watching, now: list[datetime]) -> None:
        busy = report("busy", "execute_request", "a", session="old")
        assert states(watched, busy) == ["busy"]
        before = watched.kernel.last_activity
        now[0] = LATER
        messages = [
            report("starting", None, session="new"),
            busy,
            report("busy", "kernel_info_request", "b", session="new"),
            report("busy", "execute_request", "late", session="old"),
        ]
        assert states(watched, *messages) == ["starting", "starting", "idle", "idle"]
        assert watched.kernel.last_activity == before

    watching(body, way, state="idle")


@each_way
def test_types_that_a_trait_untracks_later_count_no_more(way: str) -> None:
    """A change of ``untracked_message_types`` works at once, as upstream's does."""

    def body(watched: Watching, _: list[datetime]) -> None:
        assert states(watched, report("busy", "custom_request", "a")) == ["busy"]
        assert states(watched, report("idle", "custom_request", "a")) == ["idle"]
        types = watched.manager.untracked_message_types
        watched.manager.untracked_message_types = [*types, "custom_request"]
        assert states(watched, report("busy", "custom_request", "b")) == ["idle"]

    watching(body, way, state="idle")


def test_a_flood_of_states_sets_the_state_once() -> None:
    """150,000 alternating states cost Python a few calls, not one each."""

    def body(watched: Watching, _: list[datetime]) -> None:
        changes: list[str] = []
        states(watched, report("busy", "execute_request", "a"), report("idle", None))
        reader: Any = watched.reader
        apply = reader.policy.apply

        def counted() -> None:
            changes.append(watched.kernel.execution_state)
            apply()

        reader.policy.apply = counted
        called: list[Any] = []
        reader.policy.message = lambda *args: called.append(args)
        count = 20_000
        flood = [
            watched.signed(report(state, "execute_request", "a")) for state in ("busy", "idle")
        ]
        watched.deliver([flood[index % 2] for index in range(count)])
        assert called == []
        assert len(changes) < count / 10
        assert watched.kernel.execution_state == "idle"

    watching(body, WAYS[1], state="idle")


@pytest.mark.parametrize("before", ["busy", "idle"])
def test_failed_restart_leaves_the_state(before: str) -> None:
    """A restart that fails leaves a kernel what it was, and its messages count."""

    def body(watched: Watching, _: list[datetime]) -> None:
        def deliver(state: str) -> None:
            message = report(state, "execute_request", "a", session="life 0")
            watched.deliver([watched.signed(message)])

        policy = watched.manager._policies[KERNEL_ID]
        deliver("busy")
        if before == "idle":
            deliver("idle")
        policy.restart()
        assert watched.kernel.execution_state == "starting"
        policy.survived(before)
        assert watched.kernel.execution_state == before
        deliver("busy")
        assert watched.kernel.execution_state == "busy"
        deliver("idle")
        assert watched.kernel.execution_state == "idle"

    watching(body, WAYS[1], state="idle")


# a model

LANES = st.sampled_from(("main", "x", "y", "comm", "control"))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), LANES, st.booleans()),
        st.tuples(st.just("end"), LANES, st.booleans()),
        st.tuples(st.just("ignored"), st.sampled_from(IGNORED), st.just(False)),
        st.tuples(st.just("restart"), st.booleans(), st.just(False)),
        st.tuples(st.just("deliver"), st.just(""), st.just(False)),
    ),
    max_size=40,
)
TYPES = {"comm": "comm_msg", "control": "custom_request"}


class Model:
    """A kernel that runs requests in lanes, and what a server that hears of it must think."""

    def __init__(self) -> None:
        self.life = 0
        self.count = 0
        self.running: dict[str, str] = {}
        """What each lane runs."""
        self.thought: dict[str, set[str]] = {}
        """Per lane, the requests whose busy was received, and no end of which is known."""
        self.doubtful: set[str] = set()
        """Requests of subshells, of which one was deleted since: not known to report their end."""
        self.starting = False

    def begin(self, lane: str, lost: bool) -> list[list[bytes]]:
        """Run the next request in a lane, as the last has ended; its busy may be lost."""
        messages = self.end(lane, lost)
        self.count += 1
        self.running[lane] = f"request {self.count}"
        return [*messages, *self._report("busy", lane, lost)]

    def end(self, lane: str, lost: bool) -> list[list[bytes]]:
        """End what a lane runs; its idle may be lost."""
        if lane not in self.running:
            return []
        messages = self._report("idle", lane, lost)
        del self.running[lane]
        return messages

    def _report(self, state: str, lane: str, lost: bool) -> list[list[bytes]]:
        if lost:
            return []
        name = self.running[lane]
        thought = self.thought.setdefault(lane, set())
        if lane in TYPES:
            thought.discard(name)
        else:
            thought.clear()
        if lane == "main":
            for other in TYPES:
                self.thought.pop(other, None)
            if state == "busy":
                for requests in self.thought.values():
                    requests.difference_update(self.doubtful)
                self.doubtful.clear()
        if state == "busy":
            thought.add(name)
        self.starting = False
        subshell = lane if lane in ("x", "y") else None
        parent_type = TYPES.get(lane, "execute_request")
        session = f"life {self.life}"
        return [report(state, parent_type, name, subshell=subshell, session=session)]

    def delete_subshell(self) -> None:
        """Delete a subshell; which one, no status tells."""
        for lane in ("x", "y"):
            self.doubtful |= self.thought.get(lane, set())

    def restart(self, *, told: bool) -> list[list[bytes]]:
        """Begin a new life."""
        self.life += 1
        self.running.clear()
        self.thought.clear()
        self.starting = True
        return [report("starting", None, session=f"life {self.life}")] if told else []

    @property
    def state(self) -> str:
        """What the server must think."""
        if any(self.thought.values()):
            return "busy"
        return "starting" if self.starting else "idle"


class Walk:
    """A watched kernel and its model, step by step."""

    def __init__(self, watched: Watching) -> None:
        self._watched = watched
        self._model = Model()
        self._waiting: list[list[bytes]] = []
        self._run_one("main")

    def _run_one(self, lane: str) -> None:
        self._waiting += self._model.begin(lane, lost=False)
        self._waiting += self._model.end(lane, lost=False)

    def deliver(self, _detail: Any = None, _lost: bool = False) -> None:
        """Have everything arrive; compare."""
        self._watched.deliver([self._watched.signed(message) for message in self._waiting])
        self._waiting.clear()
        assert self._watched.kernel.execution_state == self._model.state

    def begin(self, lane: str, lost: bool) -> None:
        """Begin a request."""
        self._waiting += self._model.begin(lane, lost)

    def end(self, lane: str, lost: bool) -> None:
        """End a request."""
        self._waiting += self._model.end(lane, lost)

    def ignored(self, parent_type: str, _lost: bool) -> None:
        """Answer a request that is no activity."""
        if parent_type == "delete_subshell_request":
            self._model.delete_subshell()
        self._waiting += [report(state, parent_type, "q") for state in ("busy", "idle")]

    def restart(self, told: bool, _lost: bool) -> None:
        """Restart: the kernel tells, or the manager knows; the last message may come late."""
        stale = self._waiting[-1:]
        self.deliver()
        if not told:
            self._watched.manager._policies[KERNEL_ID].restart()
        self._waiting += self._model.restart(told=told)
        if not told:
            self._waiting += stale

    def come_to_rest(self) -> None:
        """Run one more request in each shell, to its end."""
        self.deliver()
        for lane in ("main", "x", "y"):
            self._run_one(lane)
        self.deliver()
        assert self._watched.kernel.execution_state == "idle"


@given(steps=STEPS, way=st.sampled_from(WAYS[1:]))
@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
def test_state_is_busy_exactly_while_the_model_is(steps: list[Any], way: str) -> None:
    """Whatever runs in whatever lanes, is lost or restarted, the state is right, and ends idle."""

    def body(watched: Watching, _: list[datetime]) -> None:
        walk = Walk(watched)
        for what, detail, lost in steps:
            getattr(walk, what)(detail, lost)
        walk.come_to_rest()

    watching(body, way, state="idle")
