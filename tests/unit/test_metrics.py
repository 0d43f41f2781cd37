"""What the native code counts, and how it is published."""

from __future__ import annotations

import builtins
import importlib.util
import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jupyter_events import EventLogger
from prometheus_client import CollectorRegistry, generate_latest

from kernelwire import _native, events, metrics
from kernelwire.log.kernel_log import empty_log
from kernelwire.log.waits import HOLD
from support import prometheus
from support.waiting import run_to_end
from support.workbench import NATIVE, PORTABLE, Workbench

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]

APP: Any = SimpleNamespace(log=logging.getLogger("test_metrics"), event_logger=None)

PLAIN: Any = {
    "spliced": False,
    "limits": None,
    "overflow": "drop",
    "patience": 30.0,
    "hide_tracebacks": False,
    "one_by_one": False,
    "bound": 0,
}


def message(msg_type: str = "display_data", content: str = "{}") -> list[bytes]:
    """A message that is not signed."""
    header = json.dumps({"msg_id": "1", "msg_type": msg_type, "date": "", "version": "5.3"})
    return [b"topic", b"<IDS|MSG>", b"", header.encode(), b"{}", b"{}", content.encode()]


def counted() -> dict[tuple[str, ...], int]:
    """What is counted, by metric and labels."""
    return {(name, *values): number for name, values, number in _native.read_metrics()}


def changes(step: Callable[[], object]) -> dict[tuple[str, ...], int]:
    """What a step adds, but for what messages are made of."""
    before = counted()
    step()
    after = counted()
    others = {"messages", "message_bytes", "batch_messages"}
    changed = {key: number - before[key] for key, number in after.items() if key[0] not in others}
    return {key: number for key, number in changed.items() if number}


def read(cursor: _native.Cursor, now: float = 0.0) -> None:
    """Have a client take all that there is; what is handed over is not sent."""
    while not isinstance(written := cursor.write(-1, now), bool):
        wait, hold, data, _ = written
        if data:
            cursor.acknowledge(sum(map(len, data)))
        elif wait == HOLD:
            cursor.release(hold, 0)
        else:
            return


@pytest.fixture
def log() -> _native.Log:
    """The log of a kernel that does not sign."""
    return empty_log()


@pytest.fixture
def cursor(log: _native.Log) -> _native.Cursor:
    """A client without limits."""
    cursor = log.open()
    cursor.apply(PLAIN)
    return cursor


class TestCauses:
    """Each message that a client does not get is counted by the cause."""

    def test_rate_limits_that_drop(self, log: _native.Log, cursor: _native.Cursor) -> None:
        """As stock does it: the message with which a limit begins is handed over."""
        cursor.apply(PLAIN | {"limits": (2.0, 1e9, 1.0)})
        for _ in range(10):
            log.append(message(), 0.0)
        added = changes(lambda: cursor.write(-1, 0.0))
        assert added["handed_over_messages", "limit_change"] == added["held_messages",] == 1
        cursor.window().messages_exceeded = True
        added = changes(lambda: read(cursor))
        assert added["dropped_messages", "rate_limited"] == 10 - 2 - 1
        assert changes(cursor.note_withheld) == {("dropped_messages", "rate_limited"): 1}

    @pytest.mark.parametrize("way", [NATIVE, PORTABLE])
    @pytest.mark.parametrize("hook", [None, "get_part"])
    def test_rate_limits_that_drop_in_python(self, way: str, hook: str | None) -> None:
        """What upstream's limiter withholds is dropped as well: each is sent, or counted."""

        async def play() -> int:
            bench = Workbench(
                way, iopub_overflow="drop", iopub_msg_rate_limit=2.0, rate_limit_window=1.0
            )
            try:
                if hook is not None:
                    setattr(bench.connection, hook, getattr(bench.connection, hook))
                    bench.go_live()
                bench.deliver([("iopub", message())] * 10)
                return (await bench.sent()).count(b"display_data")
            finally:
                bench.close()

        sent: list[int] = []
        added = changes(lambda: sent.append(run_to_end(play)))
        assert 0 < sent[0] < 10
        assert added["dropped_messages", "rate_limited"] == 10 - sent[0]

    def test_client_that_does_not_read(self, log: _native.Log, cursor: _native.Cursor) -> None:
        """Counted as soon as it is decided, and not again when the client comes to it."""
        cursor.apply(PLAIN | {"bound": 20_000})
        added = changes(lambda: [log.append(message(), 0.0) for _ in range(500)])
        dropped = added["dropped_messages", "bound"]
        assert 0 < dropped < 500
        added = changes(lambda: read(cursor))
        assert added["drop_notices",] == 1
        assert ("dropped_messages", "bound") not in added
        assert cursor.totals()["messages"] + dropped == 500

    def test_client_that_needs_too_much(self, log: _native.Log, cursor: _native.Cursor) -> None:
        """It is closed, and what waited is lost."""
        cursor.apply(PLAIN | {"bound": 20_000})
        added = changes(lambda: [log.append(message("status"), 0.0) for _ in range(500)])
        lost = added["dropped_messages", "overflowed"]
        added = changes(lambda: cursor.go_away(20_000, False))
        assert lost + added["dropped_messages", "overflowed"] == 500

    def test_session_that_needs_too_much(self, log: _native.Log, cursor: _native.Cursor) -> None:
        """It is given up; a session that was never there is none."""
        cursor.go_away(20_000, False)
        assert ("sessions_away",) not in changes(lambda: cursor.come_back(PLAIN))
        assert changes(lambda: cursor.go_away(20_000, False))["sessions_away",] == 1
        added = changes(lambda: [log.append(message("status"), 0.0) for _ in range(500)])
        assert 0 < added["dropped_messages", "given_up"] < 500
        assert added["sessions_away",] == -1

    def test_message_that_a_client_refuses(self, log: _native.Log, cursor: _native.Cursor) -> None:
        """It was begun twice, and never taken whole."""
        log.append(message(), 0.0)

        def refuse() -> None:
            for _ in range(2):
                cursor.write(-1, 0.0)
                cursor.acknowledge(1)
                cursor.go_away(0, False)
                cursor.come_back(PLAIN)

        assert changes(refuse)["dropped_messages", "refused"] == 1

    def test_output_of_a_request_that_is_interrupted(
        self, log: _native.Log, cursor: _native.Cursor
    ) -> None:
        """What waited is merged, given way or skipped, each counted once."""
        cursor.apply(PLAIN | {"limits": (2.0, 1e9, 1.0), "overflow": "pace"})
        text = '{"name":"stdout","text":"x"}'

        def flood() -> None:
            for number in range(20):
                log.append(message("stream", text) if number % 2 else message(), 0.0)
            read(cursor)
            log.cut_short(0.0)
            read(cursor)

        added = changes(flood)
        assert added["waited_messages",] >= added["dropped_messages", "interrupted"] > 0

    def test_text_that_waits_is_merged(self, log: _native.Log, cursor: _native.Cursor) -> None:
        """It arrives in one message."""
        cursor.apply(PLAIN | {"limits": (2.0, 1e9, 1.0), "overflow": "pace"})
        for _ in range(20):
            log.append(message("stream", '{"name":"stdout","text":"x"}'), 0.0)
        added = changes(lambda: [read(cursor, now) for now in (0.0, 5.0)])
        assert added["merged_messages", "text"] == 20 - cursor.totals()["messages"]
        assert cursor.totals()["merged"] == added["merged_messages", "text"]


class TestTotals:
    """The process' counters."""

    def test_log_that_is_gone_is_still_counted(self) -> None:
        """A counter that goes down is taken for a process that has started anew."""
        before = counted()
        log = empty_log()
        cursor = log.open()
        log.append(message(), 0.0)
        read(cursor)
        with_log = counted()
        del cursor, log
        after = counted()
        key = ("messages", "iopub", "to_client")
        assert with_log[key] == before[key] + 1
        gauges = {metric.name for metric in metrics.METRICS if metric.kind == "gauge"}
        kept = {key: number for key, number in with_log.items() if key[0] not in gauges}
        assert {key: after[key] for key in kept} == kept

    def test_requests_are_counted_however_they_are_read(self) -> None:
        """Natively, or in Python; those on iopub are none."""
        before = counted()
        frame = _native.encode_v1("control", [b"{}"] * 4)
        _native.Signer(b"").v1(frame)
        for channel in ("stdin", "iopub", "nonsense"):
            _native.count_request(channel, 10)
        after = counted()
        for channel, size in (("control", len(frame)), ("stdin", 10)):
            labels = (channel, "from_client")
            assert after["messages", *labels] - before["messages", *labels] == 1
            assert after["message_bytes", *labels] - before["message_bytes", *labels] == size
        assert ("messages", "iopub", "from_client") not in after

    @pytest.mark.parametrize("channel", ['"channel": "shell", ', ""])
    def test_request_of_the_default_protocol_is_counted_once(self, channel: str) -> None:
        """Also where it names no channel, which is for Python to deal with."""
        header = '"header": {"msg_id": "1", "msg_type": "execute_request", "version": "5.3"}'
        request = f'{{{channel}{header}, "parent_header": {{}}, "metadata": {{}}, "content": {{}}}}'

        async def play() -> None:
            bench = Workbench(NATIVE, None)
            try:
                bench.connection.handle_incoming_message(request)
            finally:
                bench.close()

        before = counted()
        run_to_end(play)
        after = counted()
        labels = ("shell", "from_client")
        assert after["messages", *labels] - before["messages", *labels] == 1
        size = after["message_bytes", *labels] - before["message_bytes", *labels]
        assert size == len(request)


class TestPublishing:
    """What a registry gets."""

    def test_table_has_exactly_what_is_counted(self) -> None:
        """Something that is counted and not published, or the other way round."""
        found = sorted((name, values) for name, values, _ in metrics.samples())
        table = [(metric.name, values) for metric in metrics.METRICS for values in metric.values]
        assert found == sorted(table)
        assert len({metric.name for metric in metrics.METRICS}) == len(metrics.METRICS)

    def test_collector_that_fails_leaves_the_others(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An operator has all other metrics, and a line in the log."""
        registry = CollectorRegistry()
        registry.register(metrics.Collector(APP.log))
        assert b"kernelwire_messages_total" in generate_latest(registry)
        monkeypatch.setattr(metrics, "samples", None)
        assert generate_latest(registry) == b""
        assert "The metrics could not be read" in caplog.text

    def test_registry_that_has_such_names_already(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A second server in the process registers nothing; a clash is logged."""
        registry = CollectorRegistry()
        monkeypatch.setattr("prometheus_client.REGISTRY", registry)
        monkeypatch.setattr(metrics, "_registered", [])
        metrics.register(APP)
        metrics.register(APP)
        assert len(registry._collector_to_names) == 1
        monkeypatch.setattr(metrics, "_registered", [])
        metrics.register(APP)
        assert "kernelwire has no metrics: Duplicated" in caplog.text

    def test_server_without_prometheus_client(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It has no metrics, and all the rest."""
        imported = builtins.__import__

        def without(name: str, *args: Any, **kwargs: Any) -> Any:
            if name.startswith("prometheus_client"):
                raise ImportError("not here")
            return imported(name, *args, **kwargs)

        monkeypatch.setattr(metrics, "_registered", [])
        monkeypatch.setattr(builtins, "__import__", without)
        metrics.register(APP)
        assert "kernelwire has no metrics: not here" in caplog.text
        assert metrics._registered == []

    @pytest.mark.parametrize("cause", ["bound", "late", "interrupted", "away", "refused"])
    def test_event_has_every_cause_that_clients_are_told(self, cause: str) -> None:
        """One that the schema does not have is not emitted."""
        event_logger = EventLogger()
        app = SimpleNamespace(log=APP.log, event_logger=event_logger)
        seen: list[dict[str, Any]] = []

        async def listen(logger: EventLogger, schema_id: str, data: dict[str, Any]) -> None:
            del logger, schema_id
            seen.append(data)

        async def play() -> None:
            for _ in range(2):
                events.register(app)
            event_logger.add_listener(schema_id=events.OUTPUT_DROPPED, listener=listen)
            data = {"kernel_id": "k", "cause": cause, "messages": 3, "bytes": 4}
            events.emit({"event_logger": event_logger}, events.OUTPUT_DROPPED, data)
            await event_logger.gather_listeners()

        run_to_end(play)
        assert [each["cause"] for each in seen] == [cause]

    def test_server_without_event_logger(self) -> None:
        """Nothing is emitted, and nothing breaks."""
        events.register(APP)
        events.emit({}, events.OUTPUT_DROPPED, {})

    def test_reference_is_that_of_the_table(self) -> None:
        """``python docs/metrics_page.py`` writes it anew."""
        spec = importlib.util.spec_from_file_location("page", ROOT / "docs" / "metrics_page.py")
        assert spec is not None
        assert spec.loader is not None
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        assert script.PAGE.read_text() == script.page()


class TestDocumented:
    """What the page has Prometheus ask."""

    @pytest.fixture
    def rules(self) -> list[dict[str, Any]]:
        """The alerts."""
        (group,) = yaml.safe_load(prometheus.documented("rules.yml"))["groups"]
        return list(group["rules"])

    def test_alerts_are_about_metrics_and_labels_that_there_are(
        self, rules: list[dict[str, Any]]
    ) -> None:
        """One of a metric that was renamed would never be raised."""
        labels = {each.full_name: set(each.labels) for each in metrics.METRICS}
        for rule in rules:
            names = re.findall(r"kernelwire_\w+", rule["expr"])
            assert names
            assert set(names) <= set(labels)
            grouped = re.findall(r"by \(([^)]*)\)", rule["expr"])
            asked = {name for each in grouped for name in each.split(", ")} - {"instance"}
            asked |= set(re.findall(r"[{,](\w+)!?=", rule["expr"]))
            assert asked <= labels[names[0]]

    @pytest.mark.skipif(not prometheus.is_there(), reason=prometheus.MISSING)
    def test_files_are_valid(self, tmp_path: Path) -> None:
        """As Prometheus' own tool has it."""
        config = yaml.safe_load(prometheus.documented("prometheus.yml"))
        (job,) = config["scrape_configs"]
        job["authorization"]["credentials_file"] = __file__  # any file that is there
        assert not prometheus.check("config", json.dumps(config), tmp_path)
        assert not prometheus.check("rules", prometheus.documented("rules.yml"), tmp_path)
