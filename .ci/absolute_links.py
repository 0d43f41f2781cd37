"""Make the README's links absolute, for PyPI, where there are no files beside it.

Usage, before a release is built: ``python .ci/absolute_links.py ADDRESS``, where ADDRESS is that of
the repository's files at the release, such as ``https://github.com/OWNER/NAME/blob/v1.0.0``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"

LINK = re.compile(r"(?P<head>(?P<image>!\[[^\]]*)?\]\()(?!https?://|#)(?P<path>[^)\s]+)\)")


def absolute(text: str, address: str) -> str:
    """Return a document with absolute links; those within the document stay.

    The address of a file is that of a page about it, which is no picture: that is raw.
    """

    def made_absolute(match: re.Match[str]) -> str:
        raw = "?raw=true" if match["image"] else ""
        return f"{match['head']}{address.rstrip('/')}/{match['path']}{raw})"

    return LINK.sub(made_absolute, text)


def main(arguments: list[str]) -> int:
    """Rewrite the README in its place."""
    if len(arguments) != 1 or not arguments[0].startswith("https://"):
        print(__doc__, file=sys.stderr)
        return 2
    README.write_text(absolute(README.read_text(), arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
