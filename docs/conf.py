"""How Sphinx builds the documentation: ``nox --session docs``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from kernelwire import __version__

project = "kernelwire"
author = "kernelwire contributors"
project_copyright = author
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "generated",
    "outside",
]
exclude_patterns = ["_build", "_generated"]

myst_enable_extensions = ["colon_fence", "deflist"]
# Links to headings are written as on GitHub, and a link to one that is not there is a warning.
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_inherit_docstrings = False

# Quotation marks in what is quoted, such as a setting, are to be copied as they are.
smartquotes = False

html_theme = "furo"
html_title = "kernelwire"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_show_sourcelink = False
html_copy_source = False
