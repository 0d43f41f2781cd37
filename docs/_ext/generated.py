"""Parts of pages that are made of the code: traits with their help, memory, and what could go upstream.

Written to ``_generated`` when a build begins; the pages include them.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelwire import (
    KernelwireGatewayConnection,
    KernelwireMappingKernelManager,
    KernelwireWebsocketConnection,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx
    from traitlets.config import Configurable

DOCS = Path(__file__).parents[1]
CLASSES = (
    KernelwireWebsocketConnection,
    KernelwireMappingKernelManager,
    KernelwireGatewayConnection,
)
PROPOSAL = re.compile(r"^\| (?P<number>[^|]*) \| (?P<rest>.*\| (?:patch|proposal) \|.*)\|$")


def traits() -> Iterator[str]:
    """Describe every trait of kernelwire's classes: added ones first, then those of Jupyter's."""
    for cls in CLASSES:
        upstream = next(
            base for base in cls.__mro__ if not base.__module__.startswith("kernelwire")
        )
        yield f"## {cls.__name__}\n"
        yield f"A subclass of `{upstream.__module__}.{upstream.__name__}`.\n"
        mine = cls.class_traits(config=True)
        theirs = upstream.class_traits(config=True)
        added = {name: trait for name, trait in mine.items() if is_ours(trait, theirs.get(name))}
        yield "### Added or changed\n"
        yield from described(cls, added)
        yield f"### As in {upstream.__name__}\n"
        yield from described(cls, {name: mine[name] for name in theirs.keys() - added.keys()})


def is_ours(trait: Any, upstreams: Any) -> bool:
    """Whether a trait is not upstream's own."""
    return upstreams is None or trait.this_class.__module__.startswith("kernelwire")


def described(cls: type[Configurable], found: dict[str, Any]) -> Iterator[str]:
    """Describe traits as a list of definitions."""
    for name, trait in sorted(found.items()):
        default = re.sub(r" at 0x\w+", "", repr(trait.default_value))
        if default == "traitlets.Undefined":
            default = "set by the class"
        text = inspect.cleandoc(trait.help or "See the class.").replace("<", "\\<")
        kind = type(trait).__name__
        yield f"`c.{cls.__name__}.{name}`"
        yield f": {kind}, default `{default}`. " + text.replace("\n", "\n  ") + "\n"


def upstream() -> Iterator[str]:
    """Take the rows of COMPATIBILITY.md that could go upstream, under their headings."""
    rows: dict[str, dict[str, list[str]]] = {"proposal": {}, "patch": {}}
    heading = ""
    for line in (DOCS.parent / "COMPATIBILITY.md").read_text().splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        if match := PROPOSAL.match(line):
            cells = [each.strip() for each in match["rest"].split(" | ")]
            subject, theirs, ours, why, offer = cells[:5]
            number = match["number"].strip()
            title = f"**{number}** " * number.isalnum() + subject.strip("*")
            told = f"{title}\n: *Jupyter Server:* {theirs}.\n\n  *kernelwire:* {ours}.\n\n  *Why:* {why}."
            rows[offer].setdefault(heading, []).append(told)
    titles = {"proposal": "Proposals", "patch": "Patches"}
    for offer, by_heading in rows.items():
        yield f"## {titles[offer]}\n"
        for heading, found in by_heading.items():
            yield f"### {heading}, {titles[offer].lower()}\n"
            yield "\n\n".join(found) + "\n"


def budget() -> Iterator[str]:
    """Tabulate the memory for waiting output of some settings, the defaults first."""
    pending = KernelwireWebsocketConnection.max_pending_bytes.default_value
    offline = KernelwireMappingKernelManager.max_offline_buffer_bytes.default_value
    kernels = (1, 5, 20)
    yield (
        "| `max_pending_bytes` | `max_offline_buffer_bytes` | "
        + " | ".join(f"{count} kernel{'s' * (count > 1)}" for count in kernels)
        + " |"
    )
    yield "|---:|---:|" + "---:|" * len(kernels)
    for share, note in ((1, " (default)"), (4, ""), (16, "")):
        bounds = pending // share, offline // share
        cells = [f"{bound >> 20} MiB{note}" for bound in bounds]
        cells += [f"{count * max(bounds) >> 20:,} MiB" for count in kernels]
        yield f"| {' | '.join(cells)} |"


def write(_app: Sphinx) -> None:
    """Write what the pages include, where it has changed."""
    folder = DOCS / "_generated"
    folder.mkdir(exist_ok=True)
    for name, lines in (("traits", traits()), ("upstream", upstream()), ("memory", budget())):
        path, text = folder / f"{name}.md", "\n".join(lines)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def setup(app: Sphinx) -> dict[str, Any]:
    """Add it to a build."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
