"""Finding libzmq, and what happens where it cannot be found."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest
import zmq

from kernelwire import _native
from kernelwire.sockets import drain
from support.workbench import Lines

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    """Forget what was found out before the test, and in it."""
    drain.drain.cache_clear()
    yield
    drain.drain.cache_clear()


def test_drain_when_pyzmq_is_usual_then_is_native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stops the fast way from being switched off without anybody noticing."""
    monkeypatch.delenv(drain.ENVIRONMENT, raising=False)
    assert drain.drain() == (True, f"libzmq {zmq.zmq_version()} of pyzmq {zmq.pyzmq_version()}")


def test_drain_when_environment_says_python_then_is_portable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stops tests that mean to cover the portable way from covering the native one."""
    monkeypatch.setenv(drain.ENVIRONMENT, "python")
    assert drain.drain() == (False, "KERNELWIRE_DRAIN=python is set")


@pytest.mark.parametrize("answer", [None, [b"something else"]])
def test_drain_when_self_test_fails_then_is_portable_and_says_why(
    answer: list[bytes] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stops a libzmq that behaves otherwise from being trusted with users' messages."""
    monkeypatch.delenv(drain.ENVIRONMENT, raising=False)
    with patch.object(_native, "receive", lambda _: answer):
        assert drain.drain() == (False, "the self-test received something else than was sent")


def test_load_when_library_is_another_version_then_names_both() -> None:
    """Stops functions of another libzmq than pyzmq's from being called with its sockets.

    The functions are looked up once for a process, so this asks in a fresh one.
    """
    program = (
        "from zmq.backend.cython import _zmq\n"
        "from kernelwire import _native\n"
        "try: _native.load_libzmq(_zmq.__file__, (4, 0, 99))\n"
        "except OSError as error: print(error)\n"
        "try: _native.load_libzmq('/nowhere.so', (4, 0, 99))\n"
        "except OSError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    version, missing = done.stdout.splitlines()
    assert "but pyzmq uses (4, 0, 99)" in version
    assert "/nowhere.so" in missing


def test_receive_when_socket_is_closed_then_raises() -> None:
    """Stops a closed socket's address, which means nothing any more, from reaching libzmq."""
    assert drain.drain().native
    with zmq.Context() as context:
        socket = context.socket(zmq.PAIR)
        socket.close()
        with pytest.raises(ValueError, match="the socket is closed"):
            _native.receive(socket)


def test_drain_when_environment_says_something_else_then_warns_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stops a typing error from being taken for a choice."""
    monkeypatch.setenv(drain.ENVIRONMENT, "pyhton\n")
    lines = Lines()
    log = logging.Logger("drain")  # noqa: LOG001 (one of its own)
    log.addHandler(lines)
    monkeypatch.setattr("kernelwire.sockets.choice.get_logger", lambda: log)
    assert drain.drain().native
    assert drain.drain().native
    (line,) = lines.lines
    assert r"KERNELWIRE_DRAIN is 'pyhton\n'" in line
    assert "'python', 'native' or unset" in line


@pytest.mark.parametrize("choice", ["", "native", "Python"])
def test_drain_when_environment_is_known_then_says_nothing(
    choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stops a right choice from being warned of."""
    monkeypatch.setenv(drain.ENVIRONMENT, choice)
    monkeypatch.setattr(
        "kernelwire.sockets.choice.get_logger", lambda: pytest.fail("there is nothing to say")
    )
    assert drain.drain().native == (choice.lower() != "python")
