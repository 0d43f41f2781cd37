"""Does everything arrive? A real ipykernel emits as fast as it can; what is missing is counted.

Usage: ``python -m benches.completeness --lift-limits --stall 3``; see benches/README.md. With
``--freeze`` the whole server is stopped once, and with ``--spinning`` other processes keep the cores
busy: what is lost then was lost in the kernel's own queue.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any

from benches import contenders
from kernelwire.bench import environment
from kernelwire.bench.asking import connected
from kernelwire.bench.blocking import Listener, Stall
from kernelwire.bench.client import SilenceError, pump
from kernelwire.bench.host import end_on_signals, running
from kernelwire.bench.progress import tracked
from kernelwire.bench.run import FAILURES
from kernelwire.bench.server import Server, Settings
from kernelwire.bench.verify import WrongAnswerError, decode_v1

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kernelwire.bench.client import KernelSocket
    from kernelwire.bench.contenders import Contender

QUIET_S = 6.0
"""Silence, on top of a stall, after which nothing more is expected."""
FAST_COUNT = 500
MARK = re.compile(rb"seq(\d{8})")

WIDGETS = 50


@dataclass(frozen=True)
class Program:
    """What the kernel runs. Marks are counted, not messages: printed lines may arrive joined."""

    source: str
    last: int = 0
    """How many of the marks must arrive, from the end: what updates something gives way to what
    updates it later. 0 is all."""

    groups: int = 1
    """In how many groups, dealt out in turn, each mark must come behind the one before."""

    def wanted(self, count: int) -> range:
        """Return the marks that must arrive."""
        return range(count - self.last if self.last else 0, count)


PROGRAMS = {
    "display_data": Program("""
from IPython import get_ipython
publish = get_ipython().display_pub.publish
for number in range({count}):
    publish(dict([("text/plain", "seq%08d" % number)]))
"""),
    "comm_msg": Program("""
import comm
channel = comm.create_comm(target_name="completeness")
for number in range({count}):
    channel.send("seq%08d" % number)
"""),
    "print": Program("""
for number in range({count}):
    print("seq%08d" % number, flush=True)
"""),
    "update_display_data": Program(
        """
from IPython import get_ipython
publish = get_ipython().display_pub.publish
name = dict(display_id="completeness")
publish(dict([("text/plain", "none")]), transient=name)
for number in range({count}):
    publish(dict([("text/plain", "seq%08d" % number)]), transient=name, update=True)
""",
        last=1,
    ),
    "widgets": Program(
        f"""
import comm
channels = [comm.create_comm(target_name="completeness") for _ in range({WIDGETS})]
for number in range({{count}}):
    state = dict(value="seq%08d" % number)
    data = dict(method="update", state=state, buffer_paths=[])
    channels[number % {WIDGETS}].send(data)
""",
        last=WIDGETS,
        groups=WIDGETS,
    ),
}


@dataclass
class Arrival:
    """What arrived of one program's output."""

    expected: int
    arrived: int = 0
    messages: int = 0
    in_order: bool = True
    reply: bool = False
    idle: bool = False
    limited: bool = False
    most_in_1_s: int = 0
    most_in_3_s: int = 0

    @property
    def complete(self) -> bool:
        """Everything is here, once and in order, and the cell is seen to end."""
        return self.arrived == self.expected and self.in_order and self.reply and self.idle

    def as_json(self) -> dict[str, Any]:
        """For the result file."""
        return {**vars(self), "lost": self.expected - self.arrived, "complete": self.complete}


class Freeze:
    """Stops the whole server once, when a share of the output has arrived."""

    def __init__(self, server: Server, seconds: float, after: int) -> None:
        self._pid = server.pid
        self._seconds = seconds
        self._after = after
        self._going_on: Timer | None = None

    def start_if_due(self, arrived: int) -> None:
        """Stop the server, and have it go on by itself."""
        if not self._seconds or self._going_on or arrived < self._after:
            return
        self._going_on = Timer(self._seconds, os.kill, (self._pid, signal.SIGCONT))
        os.kill(self._pid, signal.SIGSTOP)
        self._going_on.start()

    def check(self) -> None:
        """Make sure it happened, or the result would claim too much."""
        if not self._seconds:
            return
        if self._going_on is None:
            msg = "the output was over before the server was to be stopped"
            raise WrongAnswerError(msg)
        self._going_on.join()


@contextmanager
def spinning(processes: int) -> Iterator[None]:
    """Keep that many cores busy."""
    with ExitStack() as stack:
        for _ in range(processes):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


def observe(server: Server, program: str, options: argparse.Namespace) -> Arrival:
    """Run one program in a fresh kernel and count what arrives."""
    with connected(server, server.start_kernel("ipy")) as client:
        pauses: list[Stall | Freeze] = [
            Stall(server, options.stall, options.count // 4),
            Freeze(server, options.freeze, options.count // 10),
        ]
        msg_id = client.execute(PROGRAMS[program].source.format(count=options.count))
        listener = Listener(client, msg_id)

        def done() -> bool:
            for pause in pauses:
                pause.start_if_due(client.count)
            return listener.finished()

        with suppress(SilenceError):  # something is missing; counting will say what
            pump([client], done, QUIET_S + options.stall + options.freeze)
        for pause in pauses:
            pause.check()
        arrival = count_marks(client, PROGRAMS[program], options.count)
        arrival.reply, arrival.idle = listener.reply, listener.idle
    return arrival


def count_marks(client: KernelSocket, program: Program, count: int) -> Arrival:
    """Find the marks of the program in the contents of what arrived."""
    wanted = program.wanted(count)
    arrival = Arrival(len(wanted))
    numbers: list[int] = []
    times: list[int] = []
    for index in range(client.count):
        message = decode_v1(client.payload(index))
        if message.channel != "iopub" or message.header["msg_type"] == "execute_input":
            continue  # the echoed source is no output
        found = [int(mark) for mark in MARK.findall(message.parts[3])]
        numbers += found
        arrival.messages += bool(found)
        times += [client.arrived_ns(index)] * bool(found)
        arrival.limited |= b"rate exceeded" in message.parts[3]
    arrival.arrived = len(set(numbers).intersection(wanted))
    groups = [numbers_of(numbers, group, program.groups) for group in range(program.groups)]
    arrival.in_order = all(group == sorted(set(group)) for group in groups)
    arrival.most_in_1_s = most_within(times, 1.0)
    arrival.most_in_3_s = most_within(times, 3.0)
    return arrival


def numbers_of(numbers: list[int], group: int, groups: int) -> list[int]:
    """Return the numbers of one of so many groups."""
    return [number for number in numbers if number % groups == group]


def most_within(times_ns: list[int], seconds: float) -> int:
    """Return how many of the times, in ascending order, lie within so many seconds at most."""
    first = most = 0
    for index, time_ns in enumerate(times_ns):
        while time_ns - times_ns[first] >= seconds * 1e9:
            first += 1
        most = max(most, index - first + 1)
    return most


def measure(contender: Contender, program: str, options: argparse.Namespace) -> dict[str, Any]:
    """One observation in a fresh server."""
    settings = Settings.of(
        contender,
        lift_limits=options.lift_limits,
        config=contender.config | {"KernelManager": {"transport": options.transport}},
    )
    try:
        with running(Server(settings)) as server, spinning(options.spinning):
            return {"ok": True, **observe(server, program, options).as_json()}
    except FAILURES as error:
        return {"ok": False, "reason": f"{type(error).__name__}: {error}"}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Every program for every contender, contenders side by side."""
    plan = [
        (program, contender, number)
        for program in options.programs
        for number in range(options.rounds)
        for contender in options.contenders
    ]
    cases: dict[str, dict[str, list[dict[str, Any]]]] = {}
    steps = tracked(plan, lambda step: f"{step[0]} {step[1].name}", quiet=options.quiet)
    for program, contender, number in steps:
        outcome = {"round": number, **measure(contender, program, options)}
        cases.setdefault(program, {}).setdefault(contender.name, []).append(outcome)
    return {
        "schema": environment.SCHEMA,
        "kind": "completeness",
        "environment": environment.describe(),
        "settings": {
            "count": options.count,
            "rounds": options.rounds,
            "stall_s": options.stall,
            "freeze_s": options.freeze,
            "spinning": options.spinning,
            "transport": options.transport,
            "limits": "lifted" if options.lift_limits else "default",
            "contenders": {each.name: each.as_json() for each in options.contenders},
        },
        "cases": cases,
    }


def print_table(result: dict[str, Any]) -> None:
    """One line per observation on standard output."""
    for program, by_name in result["cases"].items():
        for name, outcomes in by_name.items():
            for each in outcomes:
                print(f"{program:14} {name:20} {describe(each)}")


def describe(outcome: dict[str, Any]) -> str:
    """Put an observation into words."""
    if not outcome["ok"]:
        return f"WRONG: {outcome['reason']}"
    text = f"{outcome['arrived']} of {outcome['expected']} arrived"
    text += "" if outcome["in_order"] else ", out of order"
    text += "" if outcome["reply"] else ", no execute_reply"
    text += "" if outcome["idle"] else ", no idle: the cell hangs"
    text += ", rate limit announced" if outcome["limited"] else ""
    return f"{text}; {outcome['most_in_1_s']} in 1 s, {outcome['most_in_3_s']} in 3 s"


def acceptable(name: str, outcome: dict[str, Any], *, limits_lifted: bool) -> bool:
    """Whether an observation is fit to be quoted, and for kernelwire: whether it is lossless.

    Stock losing output is what this program is there to show, so it is no failure.
    """
    if not outcome["ok"]:
        return False
    lossless = name in ("kernelwire", "kernelwire-portable")
    return outcome["complete"] or not (limits_lifted and lossless)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line and check its names before anything starts."""
    parser = argparse.ArgumentParser(prog="python -m benches.completeness", description=__doc__)
    parser.add_argument("--contenders", nargs="+", help="names, or name=connection[,manager]")
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--count", type=int, default=20_000, help="outputs per program")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--stall", type=float, default=0, help="block the server's loop, seconds")
    parser.add_argument("--freeze", type=float, default=0, help="stop the server once, seconds")
    parser.add_argument("--spinning", type=int, default=0, help="processes that keep cores busy")
    parser.add_argument("--transport", choices=("tcp", "ipc"), default="tcp")
    parser.add_argument("--lift-limits", action="store_true", help="IOPub rate limits out of reach")
    parser.add_argument("--fast", action="store_true", help=f"{FAST_COUNT} outputs per program")
    parser.add_argument("--json", type=Path, help="write everything observed to this file")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(arguments)
    names = options.contenders or [
        name
        for name, each in contenders.all_contenders().items()
        if not each.only and not each.what
    ]
    try:
        options.contenders = [contenders.parse(name) for name in names]
    except ValueError as error:
        parser.error(str(error))
    if options.fast:
        options.count = FAST_COUNT
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 1 if an observation failed or kernelwire lost something with the limits lifted."""
    options = parse_arguments(arguments)
    end_on_signals()
    try:
        result = run(options)
    except KeyboardInterrupt:
        print("interrupted; nothing written", file=sys.stderr)
        return 130
    print_table(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    outcomes = [
        acceptable(name, each, limits_lifted=options.lift_limits)
        for by_name in result["cases"].values()
        for name, rounds in by_name.items()
        for each in rounds
    ]
    return 0 if all(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
