"""With any of the names in ``kernelwire._compat`` gone, a server starts and its kernels are served.

Each server runs with copies of its packages in which one of the names is another one. kernelwire
is installed there as an extension: it decides by itself what it does without.

Not each name has its server in each run: a sample has, of every feature one at least. Another one is
drawn every week; the head of pytest's output tells its seed, which ``SAMPLE_SEED`` sets. With
``DOCTORED_NAMES=all``, as in ``nox --session doctored``, there is a server for each.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kernelwire import _compat
from kernelwire._compat import Feature, HostName
from support.fake_kernel import emit, script
from support.sampling import sample_seed
from support.server import KERNELWIRE, Implementation, Server
from support.ws_client import Client

DOCTORED = Path(__file__).parents[1] / "support" / "doctored"
LINKED = {"ServerApp": {"jpserver_extensions": {"kernelwire": True}}}
OUTPUTS = 50
START_SECONDS = 90.0
"""Part of the server's packages are compiled anew."""

pytestmark = pytest.mark.timeout(300)

NAMES = [name for host in _compat.HOSTS for name in host.NAMES]
SAMPLE = 12
"""How many names have their server, where not all have."""
ON = "kernelwire is on"
STOCK_CONNECTION = "connection.channels.ZMQChannelsWebsocketConnection is kept: "
STOCK_MANAGER = "kernelmanager.AsyncMappingKernelManager is kept: "
KEPT = {
    Feature.STREAMS: {STOCK_CONNECTION, STOCK_MANAGER},
    Feature.CONNECTION: {STOCK_CONNECTION},
    Feature.MANAGER: {STOCK_MANAGER},
}


def start(home: Path, environment: dict[str, str], classes: dict[str, str] | None = None) -> Server:
    """Start a server that finds kernelwire installed, and may have been told what to use."""
    linked = Implementation("linked", classes or {}, environment)
    return Server(home, linked, LINKED, start_timeout=START_SECONDS)


def doctored(name: HostName) -> dict[str, str]:
    """The variables of processes in which a name is another one."""
    return {"PYTHONPATH": str(DOCTORED), "DOCTORED_NAME": name.name}


def there(name: HostName) -> bool:
    """Whether the installed host has a name at all; some only have it in other versions."""
    host = next(host for host in _compat.HOSTS if name in host.NAMES)
    (missing,) = _compat.in_a_loop([host.find_missing])
    assert isinstance(missing, set)
    return name.name not in missing


def sampled() -> list[HostName]:
    """Names of every feature, in their order."""
    if os.environ.get("DOCTORED_NAMES") == "all":
        return NAMES
    shuffled = random.Random(sample_seed()).sample(NAMES, len(NAMES))
    of_each = {name.turns_off: name for name in shuffled}
    others = [name for name in shuffled if name not in of_each.values()]
    chosen = [*of_each.values(), *others][:SAMPLE]
    return [name for name in NAMES if name in chosen]


@pytest.mark.parametrize("name", sampled(), ids=lambda name: name.name)
def test_server_without_a_name_serves_and_says_what_is_off(name: HostName, tmp_path: Path) -> None:
    """What needs the name is off, one line says so, and messages arrive in order."""
    if not there(name):
        pytest.skip(f"{name} is not in the installed version")
    server = start(tmp_path, doctored(name))
    try:
        client = Client(server, server.start_kernel("fake")).settle()
        execution = client.execute(script(emit(OUTPUTS)))
        client.reset()
        assert execution.numbers == list(range(OUTPUTS))
        log = server.log()
    finally:
        server.stop()
    warnings = re.findall(r"^\[W .*\] kernelwire: (.*)$", log, re.MULTILINE)
    kept = {part for part in (STOCK_CONNECTION, STOCK_MANAGER) if part in log}
    if name.turns_off is None:
        assert (warnings, kept) == ([], set())
    else:
        assert len(warnings) == 1
        assert name.turns_off.value in warnings[0]
        assert f"{name.distribution} " in warnings[0]
        assert f" has no {name}" in warnings[0]
        assert kept == KEPT.get(name.turns_off, set())
    assert (ON in log) == (name.turns_off is not Feature.STREAMS)
    assert "Traceback" not in log


def test_server_that_was_told_our_classes_keeps_them_and_says_so(tmp_path: Path) -> None:
    """A class that was chosen by name stays: no line says that upstream's is used instead."""
    name = next(name for name in NAMES if name.turns_off is Feature.STREAMS)
    server = start(tmp_path, doctored(name), KERNELWIRE)
    try:
        log = server.log()
    finally:
        server.stop()
    (warning,) = re.findall(r"^\[W .*\] kernelwire: (.*)$", log, re.MULTILINE)
    ours = "KernelwireWebsocketConnection and kernelwire.kernels.manager.KernelwireMappingKernelManager"
    assert f"{ours} may fail, and was chosen all the same, because pyzmq " in warning
    assert Feature.STREAMS.value not in warning
    assert f"{name}" in warning


def test_status_names_what_is_missing_and_off(tmp_path: Path) -> None:
    """``jupyter kernelwire status`` says what the log of a server says; kernelwire is on."""
    name = next(name for name in NAMES if name.turns_off is Feature.DIRECT_WRITING)
    own = {"JUPYTER_NO_CONFIG": "1", "HOME": str(tmp_path), **doctored(name)}
    linked = "--ServerApp.jpserver_extensions={'kernelwire': True}"
    done = subprocess.run(
        [sys.executable, "-m", "kernelwire.cli", "status", linked],
        env=os.environ | own,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = rf"^self-test\n    {re.escape(name.turns_off.value)}\n    because .* has no {name}$"
    assert re.search(expected, done.stdout, re.MULTILINE), done.stdout
