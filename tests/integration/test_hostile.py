"""Kernels and clients that break the rules: nobody else may suffer."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from support.fake_kernel import script
from support.messages import encode_v1
from support.waiting import wait_until

if TYPE_CHECKING:
    from support.server import Server, StartKernel
    from support.ws_client import Client, Connect

ODD_KINDS = (
    "no_delimiter",
    "parts_0",
    "parts_1",
    "parts_2",
    "parts_3",
    "header_not_json",
    "header_not_dict",
    "no_msg_type",
    "unhashable_msg_type",
    "status_bad_content",
    "bad_signature",
)
MEBIBYTE = 1 << 20
# What a server may grow by when it is asked to do next to nothing.
FLAT = 48 * MEBIBYTE

V1_FRAMES = {
    "empty": b"",
    "count 0": struct.pack("<Q", 0),
    "count 1": struct.pack("<2Q", 1, 16),
    "count 10**7": struct.pack("<Q", 10**7),
    "count 2**63": struct.pack("<Q", 2**63),
    "offsets beyond the end": struct.pack("<7Q", 6, *[2**63] * 6),
    "offsets that fall": struct.pack("<7Q", 6, 56, 60, 58, 57, 56, 56) + b"shell",
    "no parts": encode_v1("shell", []),
    "header is null": encode_v1("shell", [b"null", b"{}", b"{}", b"{}"]),
    "channel is not text": struct.pack("<4Q", 3, 32, 34, 34) + b"\xff\xfe",
    "text": '{"channel": "shell"}',
}
LEGACY_FRAMES = {
    "empty": "",
    "not JSON": "{nonsense",
    "a list": "[1, 2]",
    "no header": '{"channel": "shell"}',
    "channel is a list": '{"channel": [], "header": {}}',
    "nothing binary": b"",
    "count 10**7": struct.pack("!I", 10**7),
    "count 2**31-1": struct.pack("!I", 2**31 - 1),
    "count -1": struct.pack("!i", -1),
    "a v1 frame": encode_v1("shell", [b"{}", b"{}", b"{}", b"{}"]),
    "offsets beyond the end": struct.pack("!3I", 2, 2**32 - 1, 2**32 - 1),
}
HOSTILE_FRAMES = [
    pytest.param(protocol, frame, id=f"{protocol} {name}")
    for protocol, frames in (("v1", V1_FRAMES), ("legacy", LEGACY_FRAMES))
    for name, frame in frames.items()
]


def odd(kind: str, count: int) -> dict[str, object]:
    """A step that publishes messages no kernel should."""
    return {"do": "odd", "kind": kind, "count": count}


EMIT_THREE = {"do": "emit", "count": 3}


# kernels


@pytest.mark.kernelwire_only("H1", "H3")
@pytest.mark.parametrize("kind", ODD_KINDS)
def test_channel_when_kernel_publishes_nonsense_then_what_follows_arrives(
    server: Server, connect: Connect, start_kernel: StartKernel, protocol: str, kind: str
) -> None:
    """Stops one bad message from making a tab, and the activity watcher, deaf for ever."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id, protocol=protocol)
    log_end = server.log_end()
    noisy = client.execute(script(EMIT_THREE, odd(kind, 40), EMIT_THREE))
    quiet = client.execute(script(EMIT_THREE))
    assert noisy.numbers == [0, 1, 2, 3, 4, 5]
    assert quiet.numbers == [6, 7, 8]
    server.wait_for_state(kernel_id, "idle")
    # One line from the connection and one from the watcher, not one per message.
    assert len(server.log_lines(log_end)) <= 2


@pytest.mark.kernelwire_only("H23")
@pytest.mark.parametrize("kind", ["parts_0", "parts_1", "parts_2", "parts_3"])
def test_message_when_parts_are_missing_then_client_never_sees_it(
    connect: Connect, start_kernel: StartKernel, protocol: str, kind: str
) -> None:
    """Stops half messages from reaching a browser, whose parser then throws."""
    client = connect(start_kernel("fake"), protocol=protocol)
    execution = client.execute(script(odd(kind, 1), EMIT_THREE))
    assert all(message.msg_type for message in execution.messages)


# clients


@pytest.mark.dirty_log
@pytest.mark.parametrize(
    ("protocol", "frame"),
    [
        pytest.param("v1", V1_FRAMES["empty"], id="v1"),
        pytest.param("legacy", LEGACY_FRAMES["not JSON"], id="legacy"),
    ],
)
def test_server_when_client_sends_nonsense_then_others_are_served(
    connect: Connect, start_kernel: StartKernel, protocol: str, frame: bytes | str
) -> None:
    """Stops one client's garbage from reaching another client's connection."""
    kernel_id = start_kernel("fake")
    vandal, bystander = connect(kernel_id, protocol=protocol), connect(kernel_id)
    vandal.socket.send(frame)
    assert bystander.execute(script(EMIT_THREE)).numbers == [0, 1, 2]


@pytest.mark.kernelwire_only("H13", "H14", "H18")
@pytest.mark.parametrize(("protocol", "frame"), HOSTILE_FRAMES)
def test_server_when_frame_lies_about_its_size_then_it_serves_on_and_stays_small(
    server: Server,
    connect: Connect,
    start_kernel: StartKernel,
    protocol: str,
    frame: bytes | str,
) -> None:
    """Stops a few bytes from freezing the server, bloating it, or leaking a token into its log."""
    kernel_id = start_kernel("fake")
    vandal = connect(kernel_id, protocol=protocol, token_in_url=True)
    bystander = connect(kernel_id)
    log_end, resident = server.log_end(), server.resident_bytes()
    for _ in range(3):
        send_if_open(vandal, frame)
    # A round trip behind the frames: the server is through with them.
    bystander.ask("control", "kernel_info_request", {}, timeout=5)
    server.status()
    assert server.resident_bytes() - resident < FLAT
    assert server.token not in server.log(log_end)


def send_if_open(client: Client, frame: bytes | str) -> None:
    """Send to a server that may have hung up on us by now."""
    with suppress(ConnectionError):
        client.socket.send(frame)


def test_channel_when_client_names_an_unknown_one_then_connection_is_kept(
    server: Server, connect: Connect, start_kernel: StartKernel, protocol: str
) -> None:
    """Stops a front end of another version from being cut off for a channel we do not know."""
    client = connect(start_kernel("fake"), protocol=protocol)
    log_end = server.log_end()
    client.send("nowhere", "kernel_info_request", {})
    assert client.execute(script(EMIT_THREE)).numbers == [0, 1, 2]
    assert "No such channel: 'nowhere'" in server.log(log_end)


@pytest.mark.kernelwire_only("H12")
def test_memory_when_client_talks_to_iopub_then_it_stays_flat(
    server: Server, connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops messages to a channel that cannot send from piling up for ever."""
    client = connect(start_kernel("fake"))
    log_end, resident = server.log_end(), server.resident_bytes()
    for _ in range(96):
        client.send("iopub", "comm_msg", {"comm_id": "x", "data": {}}, buffers=[bytes(MEBIBYTE)])
    assert client.execute(script(EMIT_THREE)).numbers == [0, 1, 2]
    assert server.resident_bytes() - resident < FLAT
    assert server.log_lines(log_end)


@pytest.mark.kernelwire_only("H24")
@pytest.mark.parametrize("parts", [[], [b"{}"], [b"{}"] * 3, [b"nonsense", b"{}", b"{}", b"{}"]])
def test_request_when_it_is_malformed_then_it_is_dropped_with_a_warning(
    server: Server, connect: Connect, start_kernel: StartKernel, parts: list[bytes]
) -> None:
    """Stops the server from signing nonsense on behalf of a client."""
    client = connect(start_kernel("fake"))
    log_end = server.log_end()
    client.socket.send(encode_v1("shell", parts))
    assert client.execute(script(EMIT_THREE)).numbers == [0, 1, 2]
    assert len(server.log_lines(log_end)) == 1


@pytest.mark.kernelwire_only("H16")
def test_origin_when_it_is_foreign_then_refused_handshake_leaves_the_live_tab_alone(
    server: Server, connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops a foreign page from closing a user's tab by knocking at its session."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id)
    foreign = {"Cookie": server.login_cookie(), "Origin": "http://evil.example"}
    with pytest.raises(Exception, match="403"):
        connect(kernel_id, session_id=client.session_id, headers=foreign)
    assert client.execute(script(EMIT_THREE)).numbers == [0, 1, 2]


# connections that never come to life


@pytest.mark.kernelwire_only("H9")
def test_session_when_kernel_has_no_handover_then_replacement_still_gets_replies(
    connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops a reconnected tab from staying deaf on kernels that keep the old peer."""
    kernel_id = start_kernel("fake-no-handover")
    stale = connect(kernel_id)
    fresh = connect(kernel_id, session_id=stale.session_id, settle=False)
    assert fresh.execute(script(EMIT_THREE), timeout=8).numbers == [0, 1, 2]


@pytest.mark.kernelwire_only("H7", "H29")
def test_reconnect_when_kernel_talks_on_then_no_message_is_swallowed(
    server: Server, connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops each reload of a page from costing a message."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id)
    client.execute(script({"do": "tick", "count": 1500}))
    messages = client.messages(until=lambda m: "number" in m.metadata)
    for _ in range(5):
        client.socket.start_close()
        messages += client.rest()[0]
        server.wait_for_connections(kernel_id, 0)
        client = connect(kernel_id, session_id=client.session_id, settle=False)
        messages += client.messages(until=lambda m: "number" in m.metadata)
    seen = [m.metadata["number"] for m in messages if "number" in m.metadata]
    assert seen == list(range(seen[0], seen[0] + len(seen)))


def test_log_when_token_is_in_the_url_then_ordinary_use_does_not_reveal_it(
    server: Server, connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops credentials from ending up in log files."""
    client = connect(start_kernel("fake"), token_in_url=True)
    client.execute(script(EMIT_THREE))
    client.close()
    wait_until(lambda: "Starting buffering" in server.log(), what="the end of the connection")
    assert server.token not in server.log()
