"""Names that jupyter_client and jupyter_server do not promise, or that only some versions have."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from inspect import getattr_static
from typing import TYPE_CHECKING, Any

from jupyter_client import session as _session
from jupyter_client.ioloop.manager import AsyncIOLoopKernelManager, IOLoopKernelManager
from jupyter_client.manager import KernelManager
from jupyter_client.session import Session, json_packer, json_unpacker
from jupyter_server.gateway.connections import GatewayWebSocketConnection
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.kernelmanager import MappingKernelManager

from kernelwire._compat._names import Feature, HostName
from kernelwire._compat._probing import calls

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "JSON_PACKERS",
    "JSON_UNPACKERS",
    "NAMES",
    "activity_stream",
    "connection_count",
    "connects_as_upstream",
    "count_connections",
    "count_no_more",
    "cull_digest_history",
    "find_missing",
    "forget_kernel_info",
    "iopub_url",
    "managed_kernel",
    "set_activity_stream",
    "starts_watching_as_starting",
    "utcnow",
]


def _connection(name: str, purpose: str) -> HostName:
    owner = "ZMQChannelsWebsocketConnection"
    return HostName(name, owner, "jupyter_server", purpose, Feature.CONNECTION)


def _manager(name: str, purpose: str) -> HostName:
    return HostName(name, "MappingKernelManager", "jupyter_server", purpose, Feature.MANAGER)


def _socket(name: str, purpose: str) -> HostName:
    return HostName(name, "KernelManager", "jupyter_client", purpose, Feature.ENGINE_READING)


def _gateway(name: str, purpose: str, turns_off: Feature | None = Feature.RELAY) -> HostName:
    return HostName(name, "GatewayWebSocketConnection", "jupyter_server", purpose, turns_off)


_LIMITER = "the rate limiter's state, which lives in the pump"

CONNECTION_NAMES = (
    _connection("_open_sessions", "registers a session when its websocket is open"),
    _connection("_open_sockets", "registers the connection for `close_all`"),
    _connection("_close_future", "done when the connection has ended"),
    _connection("_register_session", "overridden: a handshake that is refused has no effect"),
    _connection("_kernel_info_future", "the kernel's protocol version; see forget_kernel_info"),
    _connection("_finish_kernel_info", "overridden: an unusable answer ends nothing"),
    _connection("_send_status_message", "overridden: a notice comes behind what the kernel said"),
    _connection("_limit_rate", "overridden: replayed messages pass"),
    _connection("_on_error", "overridden: a traceback is hidden as configured"),
    _connection("_on_zmq_reply", "a subclass that overrides it sees every message"),
    _connection("_reserialize_reply", "a subclass that overrides it sees every message"),
    _connection("_iopub_window_msg_count", _LIMITER),
    _connection("_iopub_window_byte_count", _LIMITER),
    _connection("_iopub_window_byte_queue", _LIMITER),
    _connection("_iopub_msgs_exceeded", _LIMITER),
    _connection("_iopub_data_exceeded", _LIMITER),
)
"""Hooks of stock's connection class, which ``KernelwireWebsocketConnection`` uses on itself."""

MANAGER_NAMES = (
    _manager("_kernels", "see managed_kernel"),
    _manager("_kernel_buffers", "has the offline buffer take the place of stock's list"),
    _manager("_activity_stream", "see activity_stream; of a kernel's manager"),
)
"""Hooks of stock's manager of all kernels, which ``KernelwireKernelsMixin`` uses on itself."""

GATEWAY_NAMES = (
    _gateway("_connection_done", "a subclass that overrides it connects in upstream's way"),
    _gateway("_read_messages", "a subclass that overrides it reads in upstream's way"),
    _gateway("_write_message", "overridden: bytes stay bytes, and what cannot be sent is kept"),
    _gateway("_get_message_summary", "overridden: there is one of each message", None),
)
"""Hooks of stock's connection to a gateway, which ``KernelwireGatewayConnection`` uses on itself."""

NAMES = (
    *CONNECTION_NAMES,
    *MANAGER_NAMES,
    *GATEWAY_NAMES,
    HostName(
        "_kernel_connections",
        "MappingKernelManager",
        "jupyter_server",
        "see connection_count",
        Feature.CONNECTION,
    ),
    HostName(
        "_kernel_ports", "MappingKernelManager", "jupyter_server", "see count_connections", None
    ),
    _socket("_make_url", "see iopub_url"),
    _socket("_create_connected_socket", "see connects_as_upstream"),
    HostName("_tz", "jupyter_server", "jupyter_server", "see utcnow", None),
    HostName("_cull_digest_history", "Session", "jupyter_client", "see cull_digest_history", None),
    HostName("orjson_packer", "session", "jupyter_client", "see JSON_PACKERS", None),
    HostName("orjson_unpacker", "session", "jupyter_client", "see JSON_UNPACKERS", None),
)

try:
    from jupyter_server._tz import utcnow
except ImportError:

    def utcnow() -> datetime:
        """``jupyter_server._tz.utcnow``: the date of a kernel's last activity."""
        return datetime.now(UTC)


JSON_PACKERS: tuple[Callable[[Any], bytes], ...] = (
    json_packer,
    getattr(_session, "orjson_packer", json_packer),
)
"""``orjson_packer`` (from jupyter_client 8.8) and its older sibling.

Requests of a session that packs with one of these are made natively; others by the session.
"""

JSON_UNPACKERS: tuple[Callable[[bytes], Any], ...] = (
    json_unpacker,
    getattr(_session, "orjson_unpacker", json_unpacker),
)
"""``orjson_unpacker`` (from jupyter_client 8.8) and its older sibling.

Messages go in batches where the session reads them with one of these, else one by one.
"""


def cull_digest_history(session: Session) -> None:
    """``Session._cull_digest_history``: forget signatures, at random, until few enough are left."""
    cull = getattr(session, "_cull_digest_history", None)
    if cull is not None:
        cull()
        return
    history, size = session.digest_history, session.digest_history_size
    surplus = max(len(history) // 10, len(history) - size)
    history.difference_update(random.sample(sorted(history), min(surplus, len(history))))


def forget_kernel_info(kernel_manager: Any, future: Any) -> None:
    """``KernelManager._kernel_info_future``: where connections share a kernel's protocol version.

    ``ZMQChannelsWebsocketConnection`` sets it there. It is removed where it is ``future``, so that
    the next connection asks anew.
    """
    if getattr(kernel_manager, "_kernel_info_future", None) is future:
        del kernel_manager._kernel_info_future


def connection_count(manager: Any, kernel_id: str) -> int | None:
    """``MappingKernelManager._kernel_connections``: how many clients a kernel has.

    Its streams fill the offline buffer when the last one has gone. ``None`` for a kernel that the
    manager does not count for.
    """
    counts: dict[str, int] = getattr(manager, "_kernel_connections", {})
    return counts.get(kernel_id)


def count_connections(manager: Any, kernel_id: str, ports: list[int]) -> None:
    """``_kernel_connections`` and ``_kernel_ports``: have a manager count a kernel's clients.

    It does so for the kernels that it starts, and notes where they are.
    """
    getattr(manager, "_kernel_connections", {}).setdefault(kernel_id, 0)
    getattr(manager, "_kernel_ports", {}).setdefault(kernel_id, ports)


def count_no_more(manager: Any, kernel_id: str) -> None:
    """Take back :func:`count_connections`, for a kernel that has gone."""
    getattr(manager, "_kernel_connections", {}).pop(kernel_id, None)
    getattr(manager, "_kernel_ports", {}).pop(kernel_id, None)


def connects_as_upstream(kernel: Any) -> bool:
    """Whether a kernel's ``connect_iopub`` is jupyter_client's, and all that it calls.

    ``ConnectionFileMixin._create_connected_socket`` and ``_make_url`` among them: others may connect
    in another way.
    """
    managers = (AsyncIOLoopKernelManager, IOLoopKernelManager)
    base = next((base for base in managers if isinstance(kernel, base)), None)
    return base is not None and all(
        name not in vars(kernel) and getattr_static(kernel, name) is getattr_static(base, name)
        for name in ("connect_iopub", "_create_connected_socket", "_make_url")
    )


def iopub_url(kernel: Any) -> str:
    """``ConnectionFileMixin._make_url``: where a kernel publishes."""
    url: str = kernel._make_url("iopub")
    return url


def managed_kernel(manager: Any, kernel_id: str) -> Any:
    """``MultiKernelManager._kernels``: a kernel's manager, ``None`` where there is none.

    ``get_kernel`` would do, but answers 404 for a kernel that has just gone.
    """
    return manager._kernels.get(kernel_id)


def activity_stream(kernel: Any) -> Any:
    """``KernelManager._activity_stream``: what the watcher of a kernel's activity receives from.

    ``MappingKernelManager.stop_watching_activity`` closes it.
    """
    return getattr(kernel, "_activity_stream", None)


def set_activity_stream(kernel: Any, stream: Any) -> None:
    """``KernelManager._activity_stream``: see :func:`activity_stream`."""
    kernel._activity_stream = stream


def starts_watching_as_starting() -> bool:
    """Whether ``MappingKernelManager.start_watching_activity`` sets a kernel's state.

    That of jupyter_server 2.17 sets it to "starting", so also after a restart on other ports;
    later ones leave it alone.
    """
    code = getattr(MappingKernelManager.start_watching_activity, "__code__", None)
    return code is not None and "starting" in code.co_consts


async def find_missing() -> set[str]:
    """Look each name up where it is defined or used; returns those that are not there."""
    connection, manager = ZMQChannelsWebsocketConnection, MappingKernelManager
    found = {
        "ZMQChannelsWebsocketConnection": set(dir(connection)),
        "GatewayWebSocketConnection": set(dir(GatewayWebSocketConnection)),
        "MappingKernelManager": set(dir(manager)) | calls(manager.stop_watching_activity),
        "jupyter_server": set() if utcnow.__module__ == __name__ else {"_tz"},
        "KernelManager": set(dir(KernelManager)),
        "Session": set(dir(Session)),
        "session": set(dir(_session)),
    }
    missing = {name.name for name in NAMES if name.name not in found[name.owner]}
    # The limiter's state must be what the inherited limiter works on, too.
    limiter = {name.name for name in CONNECTION_NAMES if name.purpose is _LIMITER}
    return missing | (limiter - calls(getattr(connection, "_limit_rate", None)))
