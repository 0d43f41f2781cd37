"""Output that waits for its turn on a workbench with a scripted clock."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from support.flooding import DATE, Got, let_go, received, workbench
from support.workbench import NATIVE, PORTABLE, V1, Workbench, clock

if TYPE_CHECKING:
    from collections.abc import Iterator

HOOKED = "a hook overridden"
PACING = (NATIVE, PORTABLE, HOOKED)
"""The ways on which output waits. In the last one, each message passes through the connection."""

PROTOCOLS = {"v1": V1, "default": None}

STATS = (
    "forwarded", "merged", "superseded", "rate_limited", "congested", "handed_over", "duplicate",
    "refused", "paced", "queued",
)  # fmt: skip
"""What `received` is the sum of."""


class Paced:
    """A workbench, and the time on it."""

    def __init__(self, bench: Workbench, now: list[float]) -> None:
        self.bench = bench
        self._now = now

    @property
    def stats(self) -> dict[str, int]:
        """The connection's counts; they must add up."""
        stats = self.bench.connection.stats
        assert stats["received"] == sum(stats[way] for way in STATS)
        return stats

    @property
    def waits(self) -> int:
        """How many messages wait."""
        return self.stats["paced"] + self.stats["queued"]

    def wait(self, seconds: float) -> None:
        """Let time pass in which nothing happens."""
        self._now[0] += seconds

    async def after(self, seconds: float) -> list[Got]:
        """What the client has got after so many seconds, in which it reads all it is sent."""
        self.wait(seconds)
        let_go(self.bench)
        return await received(self.bench)

    async def in_the_end(self, step: float = 0.5) -> list[Got]:
        """What the client has got when nothing waits any more."""
        for _ in range(2000):
            got = await self.after(step)
            if not self.waits:
                return got
        raise AssertionError(f"still waiting: {self.stats}")


@contextmanager
def pacing(way: str, protocol: str = "v1", **traits: Any) -> Iterator[Paced]:
    """A workbench on which output over the limits waits."""
    now = [1_000.0]
    on = NATIVE if way == HOOKED else way
    with clock(now, DATE), workbench(on, subprotocol=PROTOCOLS[protocol], **traits) as bench:
        if way == HOOKED:
            bench.connection.get_part = bench.connection.get_part
            bench.go_live()
        yield Paced(bench, now)


def notices(messages: list[Got]) -> list[str]:
    """The texts that the server has put among messages, on stderr and in the kernel's name."""
    texts = []
    for message in messages:
        if message.is_servers:
            assert (message.msg_type, message.content["name"]) == ("stream", "stderr")
            texts.append(message.content["text"])
    return texts


def by_kernel(messages: list[Got]) -> list[Got]:
    """What the kernel has said."""
    return [message for message in messages if not message.is_servers]


def by_parent(messages: list[Got]) -> dict[str | None, list[Got]]:
    """The messages of each request."""
    found = defaultdict(list)
    for message in messages:
        found[message.parent].append(message)
    return dict(found)


def numbers(messages: list[Got]) -> list[int]:
    """Which of the kernel's messages these are made of."""
    return [number for message in messages for number in message.numbers]
