"""Links from pages to files of the repository that are no pages.

On GitHub they work as they are. Here, those to included documents go to the pages that include them,
and the others are checked and shown as the name of the file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
PAGES = {
    "COMPATIBILITY.md": "compatibility.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "index.md",
}
"""Documents of the repository, and the pages that include them."""

LINK = re.compile(r"\[(?P<text>[^\]]+)\]\((?:\.\./)?(?P<path>[\w./-]+)(?P<anchor>#[\w-]*)?\)")


def rewrite(app: Sphinx, docname: str, source: list[str]) -> None:
    """Rewrite the links of a page, and warn of one to a file that is not there."""
    page = Path(app.env.doc2path(docname))
    source[0] = LINK.sub(lambda match: rewritten(page, match), source[0])


def rewritten(page: Path, match: re.Match[str]) -> str:
    """Return a link as it is to stand in a page."""
    path = match["path"]
    if not match[0].partition("](")[2].startswith("../"):
        return match[0]
    anchor = match["anchor"] or ""
    if path in PAGES:
        return f"[{match['text']}]({PAGES[path]}{anchor})"
    if not (ROOT / path).exists():
        raise FileNotFoundError(f"{page.name} links to {path}, which is not there")
    return f"{match['text']} (`{path}` in the repository)"


def included(app: Sphinx, relative: Path, parent: str, source: list[str]) -> None:
    """Do the same for a document that a page includes: it stands in the repository's root."""
    del app, relative, parent

    def one(match: re.Match[str]) -> str:
        path, anchor = match["path"], match["anchor"] or ""
        if path in PAGES:
            return f"[{match['text']}]({PAGES[path]}{anchor})"
        if path.startswith("docs/"):
            return f"[{match['text']}]({path.removeprefix('docs/')}{anchor})"
        return match[0]

    source[0] = LINK.sub(one, source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Add it to a build."""
    app.connect("source-read", rewrite)
    app.connect("include-read", included)
    return {"parallel_read_safe": True}
