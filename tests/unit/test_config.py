"""Wrong configuration of kernelwire's classes: refused when the server starts."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from jupyter_server.serverapp import ServerApp
from traitlets import TraitError
from traitlets.config import Config
from traitlets.config.loader import DeferredConfigString

from kernelwire import (
    KernelwireMappingKernelManager,
    KernelwireWebsocketConnection,
    kernel_gateway_config,
    voila_config,
)
from kernelwire._config import check_at_start, faults
from kernelwire._logging import _Scrubber, hide_secrets
from kernelwire.extension import _link_jupyter_server_extension
from support.workbench import Lines

NAN = float("nan")
OURS, STOCKS = "KernelwireWebsocketConnection", "ZMQChannelsWebsocketConnection"
MANAGER = "KernelwireMappingKernelManager"

WRONG: list[tuple[str, str, Any, str]] = [
    (OURS, "max_pending_bytes", -1, "at least 0 (no limit)"),
    (OURS, "max_pending_bytes", DeferredConfigString("-1"), "at least 0 (no limit)"),
    (OURS, "max_pending_bytes", NAN, "expected an int"),
    (OURS, "iopub_overflow", "none", "any of ['pace', 'drop']"),
    (STOCKS, "iopub_msg_rate_limit", NAN, "must be a number"),
    (STOCKS, "iopub_data_rate_limit", DeferredConfigString("nan"), "must be a number"),
    (STOCKS, "rate_limit_window", DeferredConfigString("nan"), "must be a finite number"),
    (OURS, "rate_limit_window", float("inf"), "must be a finite number"),
    (OURS, "limit_rate", "maybe", "expected a boolean"),
    (MANAGER, "max_offline_buffer_bytes", -1, "at least 0 (no limit)"),
    ("MappingKernelManager", "kernel_info_timeout", NAN, "at least 0"),
    ("AsyncMappingKernelManager", "allowed_message_types", 5, "expected a list"),
]


@pytest.mark.parametrize(("section", "trait", "value", "why"), WRONG)
def test_trait_when_it_is_wrong_then_the_server_does_not_start(
    section: str, trait: str, value: Any, why: str
) -> None:
    """Stops a typing error from becoming an error page for each tab."""
    lines = Lines()
    app = server_app({section: {trait: value}}, lines)
    with pytest.raises(SystemExit) as ended:
        _link_jupyter_server_extension(app)
    assert ended.value.code == 1
    (line,) = lines.lines
    said = str(value) if isinstance(value, str) else value  # of the command line: as written
    assert f"{section}.{trait} is {said!r}" in line
    assert why in line


def test_trait_when_it_is_right_then_the_server_starts() -> None:
    """Stops what is merely unusual from being refused."""
    config = {
        OURS: {"max_pending_bytes": 0, "iopub_overflow": "Drop", "unheard_of": 1},
        STOCKS: {
            "iopub_msg_rate_limit": -1.0,
            "iopub_data_rate_limit": float("inf"),
            "rate_limit_window": -1.0,
        },
        MANAGER: {"max_offline_buffer_bytes": DeferredConfigString("0")},
    }
    for cls in (KernelwireWebsocketConnection, KernelwireMappingKernelManager):
        assert faults(cls, Config(config)) == []


def test_trait_when_the_class_is_another_then_nothing_is_said() -> None:
    """Stops a server that does not use a class from failing on its configuration."""
    lines = Lines()
    config = {MANAGER: {"max_offline_buffer_bytes": -1}}
    stock = "jupyter_server.services.kernels.kernelmanager.AsyncMappingKernelManager"
    app = server_app(config, lines, kernel_manager_class=stock)
    check_at_start(app, {})
    assert lines.lines == []


def test_trait_when_classes_are_chosen_by_hand_then_the_manager_refuses_it() -> None:
    """Stops a server without the extension from starting with a wrong trait."""
    config = {OURS: {"max_pending_bytes": -1}}
    app = server_app(
        config, Lines(), kernel_websocket_connection_class=KernelwireWebsocketConnection
    )
    with pytest.raises(TraitError, match=r"KernelwireWebsocketConnection\.max_pending_bytes is -1"):
        KernelwireMappingKernelManager(parent=app)


@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_window_when_set_live_to_nonsense_then_the_old_one_stays(value: float) -> None:
    """Stops a limiter that divides by it from never letting go of what it has counted."""
    probe = KernelwireWebsocketConnection.__new__(KernelwireWebsocketConnection)
    probe.unobserve_all()
    with pytest.raises(TraitError, match="rate_limit_window is"):
        probe.rate_limit_window = value
    assert probe.rate_limit_window == 3.0


def server_app(config: Any, lines: Lines, **traits: Any) -> ServerApp:
    """A server that is not initialised yet; its log is kept."""
    log = logging.Logger("app")  # noqa: LOG001 (one of its own for each)
    log.addHandler(lines)
    log.setLevel(logging.WARNING)
    return ServerApp(config=Config(config), log=log, **traits)


@pytest.mark.parametrize(
    ("said", "logged"),
    [
        ("GET /api/x?token=abc (::1)", "GET /api/x?token=[secret] (::1)"),
        ("GET /x?a=1&token=abc&b=2 (::1)", "GET /x?a=1&token=[secret]&b=2 (::1)"),
        ("GET /x?%74oken=abc&b=%26 (::1)", "GET /x?%74oken=[secret]&b=%26 (::1)"),
        ("GET /x?session_id=%FF&token=a%20c", "GET /x?session_id=%FF&token=[secret]"),
        ("uri='/x?my_auth=abc', version", "uri='/x?my_auth=[secret]', version"),
        ("no address", "no address"),
        (5, 5),
    ],
)
def test_log_when_tornado_names_an_address_then_secrets_are_left_out(
    said: object, logged: object
) -> None:
    """Stops the token of a request that fails from ending up in the log."""
    record: Any = SimpleNamespace(args=(404, said, "why"))
    assert _Scrubber().filter(record)
    assert record.args == (404, logged, "why")


def test_hide_secrets_when_called_twice_then_works_once() -> None:
    """Stops a server that links extensions again from filtering each line again."""
    log = logging.getLogger("tornado.general")
    before = list(log.filters)
    try:
        hide_secrets()
        hide_secrets()
        assert sum(isinstance(each, _Scrubber) for each in log.filters) == 1
    finally:
        log.filters[:] = before


def test_configuration_of_a_gateways_own_takes_in_the_one_of_the_package() -> None:
    """As docs/scaling-out.md has it: what is set there stays."""
    own = Config({"KernelGatewayApp": {"auth_token": "secret"}})
    own.merge(kernel_gateway_config.c)
    chosen = own.KernelGatewayApp
    assert chosen.auth_token == "secret"
    assert chosen.kernel_websocket_connection_class == "kernelwire.KernelwireWebsocketConnection"
    assert chosen.kernel_manager_class.startswith("kernelwire.")


def test_configuration_of_voilas_own_takes_in_the_one_of_the_package() -> None:
    """As docs/works-with.md has it: what is set there stays."""
    own = Config({"VoilaConfiguration": {"theme": "dark"}})
    own.merge(voila_config.c)
    assert own.VoilaConfiguration.theme == "dark"
    assert own.VoilaConfiguration.multi_kernel_manager_class.startswith("kernelwire.")
    assert own.Voila.kernel_websocket_connection_class == "kernelwire.KernelwireWebsocketConnection"


STANDS_ASIDE = "jupyter_server.services.kernels.connection.channels.ZMQChannelsWebsocketConnection"


def server_with_a_choice(stand_in_for: object) -> ServerApp:
    """A server whose connection class was chosen on the command line."""
    trait = "kernel_websocket_connection_class"
    app = server_app({OURS: {"stand_in_for": stand_in_for}}, Lines(), **{trait: STANDS_ASIDE})
    app.cli_config = Config({"ServerApp": {trait: STANDS_ASIDE}})
    return app


def test_stand_in_when_it_is_configured_wrongly_then_the_server_ends() -> None:
    """Stops a wrong value from being ignored, as no connection of ours is in place to refuse it."""
    with pytest.raises(SystemExit):
        _link_jupyter_server_extension(server_with_a_choice([5]))


@pytest.mark.parametrize("named", [True, False])
def test_stand_in_when_a_class_is_named_then_ours_takes_its_place(named: bool) -> None:
    """Stops a class that somebody has chosen from being replaced unless it is named."""
    app = server_with_a_choice([STANDS_ASIDE] if named else ["another.Class"])
    _link_jupyter_server_extension(app)
    placed = app.kernel_websocket_connection_class is KernelwireWebsocketConnection
    assert placed == named
