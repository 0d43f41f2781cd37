"""Running cases for contenders, interleaved, and putting the rounds together."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from kernelwire.bench import environment, procstat, stats
from kernelwire.bench.cases import CASES, Round, Sizes
from kernelwire.bench.client import ClientError, SilenceError
from kernelwire.bench.contenders import BASELINE
from kernelwire.bench.host import Host, ServerError, running
from kernelwire.bench.server import Settings
from kernelwire.bench.verify import WrongAnswerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kernelwire.bench.contenders import Contender

FAILURES = (WrongAnswerError, ClientError, SilenceError, ServerError, OSError, ValueError)
"""What makes a round wrong; ValueError is what decoding garbage raises. The rest is our own bug."""


@dataclass
class Options:
    """What is run, and under which conditions."""

    contenders: list[Contender]
    cases: list[str]
    rounds: int = 5
    sizes: Sizes = field(default_factory=Sizes)
    watcher: bool = True
    pin: bool = False
    """The server alone on one core, kernels and client on the others."""
    keep_servers: bool = False
    """One server per contender for the whole run; starting them is most of a short one."""
    flooder: tuple[str, ...] = ()
    """Command of the flooding kernel; empty for the one in Python."""
    functions: Mapping[str, Callable[[Host, Sizes], Round]] = field(default_factory=lambda: CASES)
    """What each case does."""

    def settings_for(self, contender: Contender) -> Settings:
        """Describe the server a contender runs in."""
        return Settings.of(
            contender,
            watcher=self.watcher,
            server_cpu=procstat.SERVER_CPU if self.pin else None,
            flooder=self.flooder,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the options that shape the numbers."""
        return {
            "rounds": self.rounds,
            "watcher": "on" if self.watcher else "off",
            "pinned": self.pin,
            "fresh servers": not self.keep_servers,
            "flooding kernel": "native" if self.flooder else "Python",
            "sizes": asdict(self.sizes),
            "contenders": {each.name: each.as_json() for each in self.contenders},
        }


Step = tuple[int, str, "Contender"]


def order_of(contenders: Sequence[Contender], number: int) -> Sequence[Contender]:
    """Return the order of contenders in a round.

    They swap places between rounds, so that a machine that gets slower or faster in the meantime
    does so for all of them.
    """
    return contenders if number % 2 == 0 else contenders[::-1]


def schedule(options: Options) -> list[Step]:
    """All measurements in order: contenders alternate within a round."""
    steps = []
    for case in options.cases:
        present = [each for each in options.contenders if each.takes_part(case)]
        for number in range(options.rounds):
            steps += [(number, case, contender) for contender in order_of(present, number)]
    return steps


class Servers:
    """A fresh server for each round, or one per contender for the whole run."""

    def __init__(self, options: Options, stack: ExitStack) -> None:
        self._options = options
        self._stack = stack
        self._kept: dict[str, Host] = {}

    @contextmanager
    def serve(self, contender: Contender) -> Iterator[Host]:
        """Lend a settled server of `contender`."""
        if self._options.keep_servers and contender.name in self._kept:
            yield self._kept[contender.name]
            return
        host = contender.host(self._options.settings_for(contender))
        if self._options.keep_servers:
            self._kept[contender.name] = self._stack.enter_context(running(host))
            yield host
        else:
            with running(host):
                yield host


def measure(
    case: Callable[[Host, Sizes], Round], contender: Contender, servers: Servers, sizes: Sizes
) -> dict[str, Any]:
    """One round; a wrong answer becomes a reason instead of figures."""
    try:
        with servers.serve(contender) as server:
            outcome = case(server, sizes)
    except FAILURES as error:
        return {"ok": False, "reason": f"{type(error).__name__}: {error}"}
    return {"ok": True, **asdict(outcome)}


def run(
    options: Options, track: Callable[[Sequence[Step], Callable[[Step], str]], Iterator[Step]]
) -> dict[str, Any]:
    """Every case for every contender; returns what the result file holds."""
    rounds: dict[str, dict[str, list[dict[str, Any]]]] = {case: {} for case in options.cases}
    with ExitStack() as stack:
        servers = Servers(options, stack)
        for number, case, contender in track(schedule(options), label):
            measured = measure(options.functions[case], contender, servers, options.sizes)
            outcome = {"round": number, **measured}
            rounds[case].setdefault(contender.name, []).append(outcome)
    return {
        "schema": environment.SCHEMA,
        "kind": "bridge",
        "environment": environment.describe(),
        "settings": options.as_json(),
        "cases": {
            case: summarise_case(by_name) | {"absent": absent(options, case)}
            for case, by_name in rounds.items()
        },
    }


def absent(options: Options, case: str) -> dict[str, str]:
    """Who cannot take part in a case, and why."""
    return {each.name: each.without[case] for each in options.contenders if case in each.without}


def label(step: Step) -> str:
    """Say what is measured in a step."""
    number, case, contender = step
    return f"{case}, {contender.name}, round {number + 1}"


def summarise_case(by_name: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Per contender its rounds and their summary; then the gains over stock."""
    result = {
        name: {"rounds": rounds, "summary": summarise_rounds(rounds)}
        for name, rounds in by_name.items()
    }
    baseline = by_name.get(BASELINE, [])
    gains = {
        name: summarise_gains(baseline, rounds)
        for name, rounds in by_name.items()
        if baseline and name != BASELINE
    }
    correct = all(each["ok"] for rounds in by_name.values() for each in rounds)
    return {"correct": correct, "contenders": result, "gains": gains}


def summarise_rounds(rounds: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Median and spread of each figure over the rounds that were right."""
    good = [each["figures"] for each in rounds if each["ok"]]
    names = good[0] if good else {}
    return {name: stats.summarise([each[name] for each in good]).as_json() for name in names}


def summarise_gains(
    stock: list[dict[str, Any]], other: list[dict[str, Any]]
) -> dict[str, dict[str, float]]:
    """Gain of each figure, from pairs of the same round: neighbours in time."""
    gains: dict[str, list[float]] = {}
    for ours, theirs in zip(other, stock, strict=True):
        if not (ours["ok"] and theirs["ok"]):
            continue
        for name, value in ours["figures"].items():
            times = stats.gain(name, theirs["figures"][name], value)
            if times is not None:
                gains.setdefault(name, []).append(times)
    return {name: stats.summarise(values).as_json() for name, values in gains.items()}


def problems(result: dict[str, Any]) -> list[str]:
    """Each round whose answer was wrong, and why."""
    return [
        f"{case} {name} round {each['round'] + 1}: {each['reason']}"
        for case, outcome in result["cases"].items()
        for name, data in outcome["contenders"].items()
        for each in data["rounds"]
        if not each["ok"]
    ]
