"""Results as text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernelwire.bench.stats import FIGURES

if TYPE_CHECKING:
    from collections.abc import Iterator


def listing(result: dict[str, Any]) -> Iterator[str]:
    """Medians with spread, one line per figure."""
    for case, outcome in result["cases"].items():
        yield f"\n{case}{'' if outcome['correct'] else '   WRONG ANSWER'}"
        for name, data in outcome["contenders"].items():
            for figure, summary in data["summary"].items():
                times = outcome["gains"].get(name, {}).get(figure)
                what = FIGURES[figure]
                line = f"  {name:20} {what.label:32} {summary['median']:12.3f} {what.unit:6}"
                line += f" ({summary['min']:.3f} .. {summary['max']:.3f}, n={summary['n']})"
                yield line + (f"  {times['median']:.2f}x better" if times else "")
