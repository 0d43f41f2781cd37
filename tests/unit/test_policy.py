"""One table says how types of messages are treated; Python asks it as well."""

from __future__ import annotations

import pytest

from kernelwire import _native


@pytest.mark.parametrize("msg_type", ["comm_open", "execute_input", "status"])
def test_what_stock_never_limits_is_not_limited(msg_type: str) -> None:
    """Source: ``ZMQChannelsWebsocketConnection._limit_rate`` of Jupyter Server."""
    assert not _native.is_limited(msg_type, paced=False)
    assert not _native.is_limited(msg_type, paced=True)


@pytest.mark.parametrize("msg_type", ["clear_output", "comm_close", "error", "execute_result"])
def test_what_a_cell_cannot_do_without_is_limited_by_stock_alone(msg_type: str) -> None:
    """Stops an error, or a result, from being withheld because much was printed before it."""
    assert _native.is_limited(msg_type, paced=False)
    assert not _native.is_limited(msg_type, paced=True)


@pytest.mark.parametrize("msg_type", ["stream", "display_data", "unheard_of", "\ud800", None, []])
def test_everything_else_is_limited(msg_type: object) -> None:
    """Also what no kernel should send as a type."""
    assert _native.is_limited(msg_type, paced=True)
