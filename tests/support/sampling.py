"""What a run takes a sample by, where all would take too long."""

from __future__ import annotations

import os
from datetime import UTC, datetime

DAYS = 7
"""For how long the sample is the same."""


def sample_seed() -> int:
    """Return the seed: ``SAMPLE_SEED``, or one for each week."""
    chosen = os.environ.get("SAMPLE_SEED")
    return datetime.now(UTC).toordinal() // DAYS if chosen is None else int(chosen)
