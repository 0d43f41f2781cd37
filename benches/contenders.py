"""All contenders: what `kernelwire.bench` compares, and the variants, peers and limits of it."""

from __future__ import annotations

import json
from importlib.metadata import Distribution, distributions
from pathlib import Path

from benches import rivals
from kernelwire.bench.contenders import (
    CONNECTION,
    KERNELWIRE,
    MANAGER,
    STOCK,
    Contender,
    exists,
)
from kernelwire.bench.server import STOCK_MANAGER

NODELAY = "kernelwire.bench.plugins.NoDelayConnection"
TRIPS = ("notebook", "rtt", "rtt_key", "rtt_key_flood")
"""What shows the effect of TCP_NODELAY; it is the same whatever is asked."""


BY_THE_LOOP = ("flood", "trickle", "trickle50", "notebook", "rtt", "rtt_key", "status", "blocked")
"""What shows the effect of the engine."""

PORTABLY = ("flood", "legacy", "trickle", "noclient", "rtt", "status", "buffers", "buffer")
"""What shows the effect of calling libzmq natively."""

QUEUES = ("queue",)
"""What shows the effect of the kernel's own queue; see ``benches.completeness``."""

LIMITED_KERNELS = {"MappingKernelManager": {"lossless_kernels": False}}


def all_contenders() -> dict[str, Contender]:
    """Every contender that can run here, stock first."""
    listed = [STOCK, Contender("stock-nodelay", NODELAY, only=TRIPS)]
    if exists(CONNECTION):
        listed.append(KERNELWIRE)
        for name, env, only in (
            ("kernelwire-loop", {"KERNELWIRE_DRIVER": "loop"}, BY_THE_LOOP),
            ("kernelwire-portable", {"KERNELWIRE_DRAIN": "python"}, PORTABLY),
        ):
            listed.append(Contender(name, CONNECTION, MANAGER, env, only=only))
        listed.append(
            Contender(
                "kernelwire-limited-kernels",
                CONNECTION,
                MANAGER,
                only=QUEUES,
                config=LIMITED_KERNELS,
            )
        )
    if rivals.has_jupyverse():
        listed.append(
            Contender(
                "jupyverse",
                without={
                    "noclient": "it has no activity watcher, and does not say where kernels are",
                    "blocked": "it does not load what blocks the event loop",
                },
                host=rivals.JupyverseServer,
                what=rivals.describe_jupyverse(),
            )
        )
    if rivals.has_relay():
        listed.append(
            Contender(
                "relay",
                without={
                    "noclient": "it has no activity watcher",
                    "status": "it has no REST interface",
                    "blocked": "it has no event loop that others run on",
                    "legacy": "it speaks the v1 protocol only",
                },
                host=rivals.RelayServer,
                what="benches/relay, without Python",
            )
        )
    return {each.name: each for each in listed}


def parse(text: str) -> Contender:
    """Find a contender of the command line.

    That is a known name, ``name=connection[,manager]``, or ``name@directory``.
    """
    name, separator, directory = text.partition("@")
    if separator:
        return installed_in(Path(directory).resolve(), name)
    name, separator, classes = text.partition("=")
    if not separator:
        known = all_contenders()
        if name not in known:
            msg = f"no contender {name!r} here; there are {', '.join(known)}"
            raise ValueError(msg)
        return known[name]
    connection, _, manager = classes.partition(",")
    for path in filter(None, (connection, manager)):
        if not exists(path):
            msg = f"{path} cannot be imported"
            raise ValueError(msg)
    return Contender(name, connection, manager or STOCK_MANAGER)


def installed_in(directory: Path, name: str) -> Contender:
    """Return the kernelwire that ``pip install --target`` has put into a directory.

    Raises ``ValueError`` where there is none.
    """
    for found in distributions(name="kernelwire", path=[str(directory)]):
        environment = {"PYTHONPATH": str(directory)}
        return Contender(name, CONNECTION, MANAGER, environment, what=described(found))
    msg = f"no kernelwire is installed in {directory}"
    raise ValueError(msg)


def described(found: Distribution) -> str:
    """Name a version, and the commit where pip was given one."""
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    commit = origin.get("vcs_info", {}).get("commit_id", "")[:12]
    return f"kernelwire {found.version}" + (f", commit {commit}" if commit else "")
