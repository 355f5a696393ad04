"""Which of too many places a test looks at: always the same ones, or others in every soak."""

from __future__ import annotations

import os
import random

SEED = int(os.environ.get("CBP_SOAK", "0"))
dice = random.Random(SEED)  # noqa: S311 - a spread, not a secret


def spread(size: int, count: int) -> list[int]:
    """Return some numbers below `size`, in order: the first, the last, and `count` between.

    In a soak ten times as many.
    """
    count *= 10 if SEED else 1
    if size <= count:
        return list(range(size))
    here = random.Random(f"{SEED} {size}")  # noqa: S311 - a spread, not a secret
    return sorted({0, size - 1, *here.sample(range(size), count)})
