"""What is off when a name is gone, in this process: the self-test's answer is the test's."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

import pytest
from tornado.iostream import IOStream

from kernelwire import _compat
from kernelwire._compat import Feature, Shortcoming, jupyter
from kernelwire._self_test import obstacle_to, report, warn_of_shortcomings
from kernelwire.extension import CONNECTION_TRAIT, MANAGER_TRAIT
from kernelwire.log.writers import BlockWriter, MessageWriter, pending_bytes, writer_for
from support.workbench import Lines, websocket_handler

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def lose(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have the self-test find that a feature must do without a name."""

    def lose(*features: Feature) -> None:
        found = tuple(Shortcoming(feature, "tornado 9 has no IOStream._it") for feature in features)
        monkeypatch.setattr(_compat, "shortcomings", lambda: found)
        monkeypatch.setattr("kernelwire._self_test.shortcomings", lambda: found)

    return lose


class TestFindMissing:
    """Each host's own probe."""

    def test_counter_that_does_not_count_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A name that is there and means something else is as good as gone."""
        frozen = property(lambda _: 0, lambda *_: None)
        monkeypatch.setattr(IOStream, "_total_write_done_index", frozen, raising=False)
        (found,) = _compat.in_a_loop([_compat.tornado.find_missing])
        assert isinstance(found, set)
        assert found & {"_total_write_index", "_total_write_done_index", "_write_buffer"} == {
            "_total_write_done_index"
        }

    def test_limiter_that_keeps_its_state_elsewhere_is_found(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The inherited limiter must work on the very state that the pump has."""
        stock = jupyter.ZMQChannelsWebsocketConnection
        monkeypatch.setattr(stock, "_limit_rate", lambda *_: False)
        (found,) = _compat.in_a_loop([jupyter.find_missing])
        assert found >= {"_iopub_window_msg_count", "_iopub_data_exceeded"}

    def test_probe_that_fails_turns_off_all_that_it_tries(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A self-test that cannot be carried out is not taken for one that has passed."""

        async def fail() -> set[str]:
            raise OSError("no socket")

        monkeypatch.setattr(_compat.tornado, "find_missing", fail)
        found = {each.feature: each.reason for each in _compat.find_shortcomings()}
        wanted = {
            Feature.DIRECT_WRITING,
            Feature.ENGINE_RELAYING,
            Feature.ENGINE_WRITING,
            Feature.PENDING_BOUND,
            Feature.RELAY,
        }
        assert set(found) == wanted
        assert "no socket" in found[Feature.DIRECT_WRITING]


class TestTurnedOff:
    """What a feature does without its names."""

    @pytest.mark.parametrize(
        ("feature", "writer"),
        [(Feature.DIRECT_WRITING, MessageWriter), (Feature.PENDING_BOUND, BlockWriter)],
    )
    def test_websocket_is_written_by_tornado_without_direct_writing(
        self, lose: Callable[..., None], feature: Feature, writer: type
    ) -> None:
        """Only a missing name of direct writing ends it."""

        async def choose() -> type:
            ours, theirs = socket.socketpair()
            stream = IOStream(ours)
            try:
                return type(writer_for(websocket_handler(stream), lambda: None))
            finally:
                stream.close()
                theirs.close()

        lose(feature)
        assert asyncio.run(choose()) is writer

    def test_pending_bytes_are_none_without_a_buffer(self) -> None:
        """A stream whose buffer cannot be found is not congested."""

        class Stream:
            """A stream of another release."""

        assert _compat.tornado.unsent_bytes(Stream()) == 0  # type: ignore[arg-type]
        assert pending_bytes(type("Handler", (), {"ws_connection": None})) == 0

    @pytest.mark.parametrize(
        ("feature", "kept"),
        [
            (Feature.STREAMS, {CONNECTION_TRAIT, MANAGER_TRAIT}),
            (Feature.CONNECTION, {CONNECTION_TRAIT}),
            (Feature.MANAGER, {MANAGER_TRAIT}),
            (Feature.DIRECT_WRITING, set()),
            (Feature.PENDING_BOUND, set()),
        ],
    )
    def test_stock_class_is_kept_where_ours_lacks_a_name(
        self, lose: Callable[..., None], feature: Feature, kept: set[str]
    ) -> None:
        """Each class of the server stays for its own names only."""
        lose(feature)
        assert {trait for trait in (CONNECTION_TRAIT, MANAGER_TRAIT) if obstacle_to(trait)} == kept


class TestReport:
    """What is logged, and what ``jupyter kernelwire status`` says."""

    def test_one_line_names_all_that_is_off(self, lose: Callable[..., None]) -> None:
        """A user need not read a traceback to know what a release has broken."""
        lines = Lines()
        logger = logging.Logger("self-test")  # noqa: LOG001 (one of its own)
        logger.addHandler(lines)
        lose(Feature.DIRECT_WRITING, Feature.PENDING_BOUND)
        warn_of_shortcomings(logger)
        (line,) = lines.lines
        for feature in (Feature.DIRECT_WRITING, Feature.PENDING_BOUND):
            assert f"{feature.value}, because tornado 9 has no IOStream._it" in line

    def test_nothing_is_logged_where_nothing_is_off(self, lose: Callable[..., None]) -> None:
        """The self-test is not heard of where it passes."""
        lines = Lines()
        logger = logging.Logger("self-test")  # noqa: LOG001 (one of its own)
        logger.addHandler(lines)
        lose()
        warn_of_shortcomings(logger)
        assert lines.lines == []

    def test_status_says_what_is_off_and_why(self, lose: Callable[..., None]) -> None:
        """The report has a result and a reason."""
        lose(Feature.DIRECT_WRITING)
        reason = "tornado 9 has no IOStream._it"
        assert report() == [{"result": Feature.DIRECT_WRITING.value, "reason": reason}]
        lose()
        assert [each["result"] for each in report()] == ["passed"]


@pytest.mark.parametrize("size", [0, 10, 100])
def test_digest_history_is_culled_as_stock_does(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ``_cull_digest_history``, as many signatures are forgotten as with it."""

    def remaining() -> int:
        session = jupyter.Session(digest_history_size=size, key=b"key")
        session.digest_history = {b"%d" % number for number in range(50)}
        jupyter.cull_digest_history(session)
        return len(session.digest_history)

    expected = remaining()
    monkeypatch.delattr(jupyter.Session, "_cull_digest_history")
    assert remaining() == expected
