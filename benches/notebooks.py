"""Notebooks that are opened in benchmarks and tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["notebook", "write_notebook"]


def notebook(cells: Sequence[str]) -> dict[str, Any]:
    """Return a notebook of code cells for the kernel ``python3``."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    plain: dict[str, Any] = {"cell_type": "code", "execution_count": None, "metadata": {}}
    return {
        "cells": [
            {**plain, "id": f"c{number}", "outputs": [], "source": source}
            for number, source in enumerate(cells)
        ],
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def write_notebook(path: Path, cells: Sequence[str]) -> None:
    """Write such a notebook."""
    path.write_text(json.dumps(notebook(cells)))
