r"""Output that is not UTF-8: what is shown is what upstream shows, however it is merged or kept.

A kernel's JSON may have any bytes in its strings: ``print("\udcff")`` in ipykernel puts the byte
``ff`` there. Each message is decoded by itself, with a replacement for what is not UTF-8.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.fake_kernel import script
from support.messages import split_v1

if TYPE_CHECKING:
    from pathlib import Path

    from support.server import Server, StartKernel, StartServer
    from support.ws_client import Client, Connect

PIECES = (
    b"plain ",
    b"\xff\xfe ",
    b"caf\xe9 ",
    # A character in two messages: neither half is one.
    b"\xe2\x82",
    b"\xac ",
    "\N{SNAKE} ".encode(),
    b"\xf0\x9f",
    b"\x90\xa2 ",
    # A surrogate as UTF-8 would have it, an overlong slash, a byte that only continues.
    b"\xed\xb3\xbf ",
    b"\xc0\xaf ",
    b"\x80",
    b"\\n",
)
JOINED = {"\N{EURO SIGN}", "\N{TURTLE}"}
"""The characters of which two messages have a half each."""
LIMITS = {"iopub_msg_rate_limit": 200, "iopub_data_rate_limit": 1_000_000, "rate_limit_window": 1}
REPEATED = 40
"""How often the pieces come, where they exceed the limits."""
PRINT = r"""print("caf\udce9 a\udcff\udc80z", flush=True)"""
PROGRAM = r"""get_ipython().system(r"printf 'caf\351 \377\376 end'")"""


def print_bytes(repeated: int = 1) -> dict[str, object]:
    """A step that prints the pieces."""
    return {"do": "print_bytes", "texts": [piece.hex() for piece in PIECES] * repeated}


def expected(repeated: int = 1) -> str:
    """What is shown of the pieces: each as text by itself."""
    texts = [json.loads(b'"%s"' % piece if piece == b"\\n" else b'""') for piece in PIECES]
    shown = [
        text or piece.decode("utf-8", "replace") for text, piece in zip(texts, PIECES, strict=True)
    ]
    return "".join(shown) * repeated


def shown(client: Client, name: str = "stdout") -> str:
    """The text that a browser shows of what has come; a text frame is UTF-8, or was refused."""
    text = ""
    for frame in client.raw_frames:
        if isinstance(frame, str):
            message = json.loads(frame)
            header, content = message["header"], message["content"]
        else:
            _, *parts = split_v1(frame)
            header, content = (
                json.loads(parts[place].decode("utf-8", "replace")) for place in (0, 3)
            )
        if header["msg_type"] == "stream" and content["name"] == name:
            text += content["text"]
    return text


@pytest.fixture(scope="module")
def limited(start_server: StartServer) -> Server:
    """A server whose limits a few messages exceed."""
    return start_server({"ZMQChannelsWebsocketConnection": LIMITS})


class TestBytes:
    """Bytes of a kernel that writes JSON of any encoding."""

    def test_live_text_is_shown(
        self, connect: Connect, start_kernel: StartKernel, protocol: str
    ) -> None:
        """Each message is text by itself; the connection goes on."""
        client = connect(start_kernel("fake"), protocol=protocol)
        client.execute(script(print_bytes()))
        assert shown(client) == expected()
        assert client.execute(script({"do": "emit", "count": 2})).numbers == [0, 1]

    @pytest.mark.kernelwire_only("H22", "I11")
    def test_no_character_comes_of_two_messages(
        self, limited: Server, connect: Connect, protocol: str
    ) -> None:
        """Over the limits, where text is joined while it waits: all of it is shown."""
        client = connect(limited.start_kernel("fake"), on=limited, protocol=protocol)
        client.execute(script(print_bytes(REPEATED)))
        text = shown(client)
        assert not JOINED & set(text)
        assert text == expected(REPEATED)

    @pytest.mark.kernelwire_only("H7", "I11")
    def test_missed_text_is_the_same(
        self,
        server: Server,
        connect: Connect,
        start_kernel: StartKernel,
        gate: Path,
        protocol: str,
    ) -> None:
        """What is kept for a client that is away, and may be joined, is shown alike."""
        kernel_id = start_kernel("fake")
        client = connect(kernel_id, protocol=protocol)
        wait = {"do": "wait_for", "path": str(gate)}
        request_id = client.start(script(wait, print_bytes(10)))
        client.messages(until=lambda m: m.is_status("busy", request_id))
        client.reset()
        server.wait_for_connections(kernel_id, 0)
        gate.touch()
        server.wait_for_state(kernel_id, "idle")
        again = connect(kernel_id, protocol=protocol, session_id=client.session_id, settle=False)
        again.collect(request_id)
        assert shown(again) == expected(10)


class TestPython:
    """A Python that prints what it has read from somewhere."""

    @pytest.mark.parametrize(
        ("code", "text"),
        [(PRINT, "caf\ufffd a\ufffd\ufffdz\n"), (PROGRAM, "caf\ufffd \ufffd\ufffd end")],
        ids=["surrogates", "output of a program"],
    )
    def test_what_is_not_utf8_is_shown_as_replacements(
        self, connect: Connect, start_kernel: StartKernel, protocol: str, code: str, text: str
    ) -> None:
        """Names of files as Python has them, and what a program prints that a cell calls."""
        client = connect(start_kernel("python3"), protocol=protocol)
        client.execute(code)
        assert shown(client) == text
