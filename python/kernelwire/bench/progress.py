"""Progress that costs nothing between two steps."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Step = TypeVar("Step")


def tracked(
    steps: Sequence[Step], label: Callable[[Step], str], *, quiet: bool = False
) -> Iterator[Step]:
    """Yield `steps`, showing on standard error which one is under way.

    A bar where rich is installed, else a line per step.
    """
    if quiet:
        return iter(steps)
    try:
        import rich.progress  # noqa: F401, PLC0415
    except ImportError:
        return listed(steps, label)
    return barred(steps, label)


def barred(steps: Sequence[Step], label: Callable[[Step], str]) -> Iterator[Step]:
    """Show a bar."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    # Without automatic refresh there is no thread that wakes up in the middle of a measurement.
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as bar:
        task = bar.add_task("", total=len(steps))
        for step in steps:
            bar.update(task, description=label(step), refresh=True)
            yield step
            bar.advance(task)
        bar.update(task, description="done", refresh=True)


def listed(steps: Sequence[Step], label: Callable[[Step], str]) -> Iterator[Step]:
    """Write a line per step."""
    started = time.monotonic()
    for number, step in enumerate(steps, 1):
        seconds = time.monotonic() - started
        print(f"{number}/{len(steps)} {label(step)} ({seconds:.0f} s)", file=sys.stderr)
        yield step
