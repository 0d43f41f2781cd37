"""A progress bar that costs nothing between two steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Step = TypeVar("Step")


def tracked(steps: Sequence[Step], label: Callable[[Step], str], *, quiet: bool) -> Iterator[Step]:
    """Yield `steps`, showing on standard error which one is under way."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    # Without automatic refresh there is no thread that wakes up in the middle of a measurement.
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False, disable=quiet) as bar:
        task = bar.add_task("", total=len(steps))
        for step in steps:
            bar.update(task, description=label(step), refresh=True)
            yield step
            bar.advance(task)
        bar.update(task, description="done", refresh=True)
