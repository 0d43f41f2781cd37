"""Metrics and events of a real server, against what a client and a kernel have counted."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from kernelwire import metrics
from kernelwire._native import decode_v1
from kernelwire.events import OUTPUT_DROPPED
from kernelwire.in_use import MANAGER_TRAIT
from support import prometheus
from support.accounting import announced
from support.bodies import leave_while_it_emits
from support.fake_kernel import emit, script
from support.scraping import Scrape, published
from support.server import IMPLEMENTATIONS, STOCK, Server
from support.waiting import wait_until
from support.websocket import ConnectionClosedError, WebSocket
from support.ws_client import Client, Connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENVELOPE = len(b"topic" + b"<IDS|MSG>") + 64
"""Bytes of a message on iopub that are in no part of it: topic, delimiter and signature."""

LIMIT = 200
CONFIG = {
    "ServerApp": {"jpserver_extensions": {"kernelwire": True}},
    "ZMQChannelsWebsocketConnection": {
        "iopub_msg_rate_limit": LIMIT,
        "iopub_data_rate_limit": 0,
        "rate_limit_window": 1.0,
    },
    "KernelwireWebsocketConnection": {"iopub_pace_seconds": 1.0},
    "KernelwireMappingKernelManager": {"max_offline_buffer_bytes": 20_000},
}


@pytest.fixture(scope="module", params=["engine", "loop"])
def metered(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with limits that are soon reached."""
    environment = {"KERNELWIRE_DRIVER": request.param}
    implementation = replace(IMPLEMENTATIONS["kernelwire"], environment=environment)
    server = Server(tmp_path_factory.mktemp("metered"), implementation, CONFIG)
    yield server
    server.stop()
    assert "Traceback" not in server.log()


@pytest.fixture
def kernel_id(metered: Server) -> Iterator[str]:
    """A scripted kernel that is up: nobody asks it any more whether it is."""
    kernel_id = metered.start_kernel("fake")
    metered.wait_for_state(kernel_id, "idle")
    yield kernel_id
    metered.delete_kernel(kernel_id)


@pytest.fixture
def connect(metered: Server) -> Iterator[Connect]:
    """Connect clients that are gone with the test."""
    with ExitStack() as stack:

        def start(kernel_id: str, **options: Any) -> Client:
            client = Client(metered, kernel_id, **options)
            stack.callback(client.reset)
            return client

        yield start


def frame_size(payload: bytes) -> int:
    """Bytes of the websocket frame with this payload. Source: RFC 6455, section 5.2."""
    return len(payload) + (2 if len(payload) < 126 else 4 if len(payload) < 1 << 16 else 10)


class Difference:
    """What was counted since this was made."""

    def __init__(self, server: Server) -> None:
        self._server, self._before = server, Scrape(server)

    def get(self, name: str, **labels: str) -> float:
        """What was added to one counter."""
        return Scrape(self._server).get(name, **labels) - self._before.get(name, **labels)

    def wait_for(self, number: float, name: str, **labels: str) -> None:
        """Wait until so much was added: a client may have something before it is counted."""

        def is_added() -> bool:
            found.append(self.get(name, **labels))
            return found[-1] == number

        found: list[float] = []
        try:
            wait_until(is_added, what=f"{number} of {name}", timeout=10)
        except TimeoutError as error:
            error.add_note(f"{name} {labels}: {found[-1]}")
            raise


@pytest.mark.kernelwire_only
class TestCounters:
    """What is counted is what was sent."""

    def test_everything_is_there_from_the_start(self, metered: Server) -> None:
        """A rate of what has never happened is 0, and not missing."""
        found = Scrape(metered)
        names = {f"kernelwire_{metric.name}" for metric in metrics.METRICS}
        assert found.families.keys() == names | {"kernelwire_info"}
        for metric in metrics.METRICS:
            family = found.families[f"kernelwire_{metric.name}"]
            assert (family.type, family.documentation) == (metric.kind, metric.help)
            if metric.kind == "histogram":
                buckets = {s.labels["le"] for s in family.samples if "le" in s.labels}
                assert buckets | {"sum"} == {le for (le,) in metric.values}
                continue
            labels = {tuple(s.labels[name] for name in metric.labels) for s in family.samples}
            assert labels == set(metric.values)

    def test_messages_and_bytes_are_those_of_kernel_and_client(
        self, metered: Server, kernel_id: str, connect: Connect
    ) -> None:
        """Each message and each byte, by channel and direction; merged, waited and dropped: none."""
        client = connect(kernel_id).settle()
        client.raw_frames.clear()
        added = Difference(metered)
        client.execute(script(emit(LIMIT // 2, size=300), emit(1, size=70_000)))
        for channel in ("iopub", "shell"):
            frames = [f for f in client.raw_frames if decode_v1(f)[0] == channel]
            labels = {"channel": channel, "direction": "to_client"}
            added.wait_for(len(frames), "messages_total", **labels)
            added.wait_for(sum(map(frame_size, frames)), "message_bytes_total", **labels)
            parts = [sum(map(len, decode_v1(frame)[1])) for frame in frames]
            envelope = ENVELOPE - (0 if channel == "iopub" else len(b"topic"))
            labels["direction"] = "from_kernel"
            assert added.get("messages_total", **labels) == len(frames)
            size = sum(parts) + len(parts) * envelope
            assert added.get("message_bytes_total", **labels) == size
        assert added.get("messages_total", channel="shell", direction="from_client") == 1
        assert added.get("message_bytes_total", channel="shell", direction="from_client") > 200
        for cause in ("bound", "late", "interrupted", "away", "malformed"):
            assert added.get("dropped_messages_total", cause=cause) == 0
        assert added.get("waited_messages_total") == 0
        assert added.get("batch_messages_sum") == LIMIT // 2 + 3
        assert 0 < added.get("batch_messages_count") <= LIMIT // 2 + 3
        assert added.get("wakeups_total", thread="loop") > 0

    def test_kernel_that_is_deleted_takes_nothing_with_it(
        self, metered: Server, connect: Connect
    ) -> None:
        """A counter that goes down is taken for a server that has started anew."""
        kernel_id = metered.start_kernel("fake")
        client = connect(kernel_id).settle()
        labels = {"channel": "iopub", "direction": "to_client"}
        added = Difference(metered)
        client.raw_frames.clear()
        client.execute(script(emit(50)))
        frames = [frame for frame in client.raw_frames if decode_v1(frame)[0] == "iopub"]
        added.wait_for(len(frames), "messages_total", **labels)
        before = Scrape(metered).counters()
        client.close()
        metered.wait_for_connections(kernel_id, 0)
        metered.delete_kernel(kernel_id)
        wait_until(lambda: Scrape(metered).get("log_entries") == 0, what="the log's end")
        after = Scrape(metered).counters()
        assert before.keys() == after.keys()
        assert [key for key, number in before.items() if number > after[key]] == []
        assert added.get("messages_total", **labels) == len(frames)

    def test_cpu_time_and_turns_are_those_of_the_native_thread(
        self, metered: Server, request: pytest.FixtureRequest
    ) -> None:
        """None where the event loop does its work."""
        found = Scrape(metered)
        runs = "engine" in request.node.callspec.id
        assert (found.get("engine_cpu_seconds_total") > 0) is runs
        assert (found.get("wakeups_total", thread="engine") > 0) is runs


@pytest.mark.kernelwire_only
def test_connections_with_upstreams_manager_are_counted(tmp_path: Path) -> None:
    """Each has a log of its own, which ends with it."""
    classes = {MANAGER_TRAIT: STOCK[MANAGER_TRAIT]}
    implementation = IMPLEMENTATIONS["kernelwire"]
    implementation = replace(implementation, classes={**implementation.classes, **classes})
    server = Server(tmp_path, implementation, CONFIG)
    try:
        added, labels = Difference(server), {"channel": "iopub", "direction": "to_client"}
        kernel_id = server.start_kernel("fake")
        client = Client(server, kernel_id).settle()
        client.execute(script(emit(50)))
        frames = [frame for frame in client.raw_frames if decode_v1(frame)[0] == "iopub"]
        added.wait_for(len(frames), "messages_total", **labels)
        client.close()
        server.wait_for_connections(kernel_id, 0)
        server.delete_kernel(kernel_id)
        assert added.get("messages_total", **labels) == len(frames)
    finally:
        server.stop()


@pytest.mark.kernelwire_only
class TestDrops:
    """What a client did not get is counted by its cause."""

    def test_output_for_nobody_is_counted_while_nobody_is_there(
        self, metered: Server, kernel_id: str, connect: Connect, tmp_path: Path
    ) -> None:
        """The client is told the same number on its return, and one event is emitted."""
        client = connect(kernel_id).settle()
        added, events = Difference(metered), Events(metered)
        msg_id = leave_while_it_emits(metered, client, kernel_id, tmp_path / "gate", 400)
        wait_until(
            lambda: added.get("messages_total", channel="iopub", direction="from_kernel") >= 402,
            what="the end of the cell",
        )
        found = Scrape(metered)
        assert found.get("sessions_away") == 1
        assert 0 < found.get("backlog_bytes") <= 20_000
        assert found.get("log_bytes") > 0
        while_away = added.get("dropped_messages_total", cause="away")
        again = connect(kernel_id, session_id=client.session_id)
        told = announced(again.messages(until=lambda m: m.is_status("idle", msg_id)))
        assert while_away == told.messages > 0
        assert added.get("dropped_messages_total", cause="away") == told.messages
        assert added.get("drop_notices_total") == 1
        data = {"kernel_id": kernel_id, "cause": "away", "messages": told.messages}
        assert events.dropped() == [data | {"bytes": told.size}]
        assert Scrape(metered).get("sessions_away") == 0

    def test_output_that_waits_for_too_long_is_counted(
        self, metered: Server, kernel_id: str, connect: Connect
    ) -> None:
        """What came and what was dropped is what was shown; one event for each notice."""
        client = connect(kernel_id).settle()
        added, events = Difference(metered), Events(metered)
        executed = client.execute(script(emit(5 * LIMIT)))
        dropped = announced(executed.messages).messages
        assert dropped > 0
        assert len(executed.numbers) + dropped == 5 * LIMIT
        assert added.get("dropped_messages_total", cause="late") == dropped
        assert added.get("waited_messages_total") >= dropped
        found = events.dropped()
        assert {each["cause"] for each in found} == {"late"}
        assert sum(each["messages"] for each in found) == dropped
        assert len(found) == added.get("drop_notices_total")

    def test_what_is_no_message_is_counted(
        self, metered: Server, kernel_id: str, connect: Connect
    ) -> None:
        """It is logged once in a while only."""
        client = connect(kernel_id).settle()
        added = Difference(metered)
        client.execute(script({"do": "odd", "kind": "no_delimiter", "count": 3}))
        assert added.get("dropped_messages_total", cause="malformed") == 3


class Events:
    """The events of a server, from now on."""

    def __init__(self, server: Server) -> None:
        path = "/api/events/subscribe"
        self._socket = WebSocket(server.open_socket, path, headers=server.auth_headers)
        self._dropped: list[dict[str, Any]] = []

    def dropped(self) -> list[dict[str, Any]]:
        """Those of dropped output, of which one is awaited; no more are received then."""
        found = [self._receive()]
        while not is_drop(found[-1]):  # those of kernels that start come here as well
            found.append(self._receive())
        self._socket.start_close()
        with suppress(ConnectionClosedError):
            while True:
                found.append(self._receive())
        self._socket.close()
        drops = [event for event in found if is_drop(event)]
        return [{k: v for k, v in drop.items() if k != "schema_id"} for drop in drops]

    def _receive(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self._socket.receive(time.monotonic() + 10))
        return event


def is_drop(event: dict[str, Any]) -> bool:
    """Whether an event is of dropped output."""
    return event["schema_id"] == OUTPUT_DROPPED


@pytest.mark.skipif(not prometheus.is_there(), reason=prometheus.MISSING)
def test_scrape_when_prometheus_does_it_then_it_has_what_was_counted(
    metered: Server, kernel_id: str, tmp_path: Path
) -> None:
    """Stops names, kinds and texts that only a parser of ours accepts."""
    watcher = prometheus.Prometheus(tmp_path, metered)
    try:
        client = Client(metered, kernel_id).settle()
        client.execute(script(emit(10)))
        scraped = Scrape(metered)
        query = 'kernelwire_messages_total{channel="iopub",direction="from_kernel"}'
        count = scraped.get("messages_total", channel="iopub", direction="from_kernel")
        wait_until(lambda: watcher.ask(query) == [count], what="the next look")
        count_of_all = len(scraped.numbers)
        assert watcher.ask('count({__name__=~"kernelwire_.+"})') == [count_of_all]
        client.reset()
    finally:
        watcher.stop()
    assert "kernelwire" not in prometheus.check("metrics", published(metered), tmp_path)
