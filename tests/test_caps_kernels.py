"""Two kernels under one cap: what the server bills for both stays below it, however they race."""

from __future__ import annotations

import os
import random
import sys
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas.emulator import Emulator, serve
from claude_batch_pandas.exceptions import CostLimitError, PausedError
from tests.lives import PATIENCE, processes
from tests.soak.spread import SEED
from tests.test_caps import FATES, LONG, billed
from tests.test_steps import on_post

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="lives are forked")

CAPS = ("0.001", "0.002", "0.004")


def spend(url: str, home: Path, name: str, cap: str, seed: int) -> None:
    """Ask three times under a cap; a process of its own."""
    os.environ |= {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": name, "HOME": str(home.parent)}
    os.environ["CLAUDE_BATCH_HOME"] = str(home)
    dice = random.Random(f"{seed}{name}")  # noqa: S311 - dice
    cbp.options.poll_seconds, cbp.options.settle_seconds = (0.02, 0.05), 0.5
    cbp.options.max_cost_per_day, cbp.options.canary = float(cap), False
    for i in range(3):
        rows = dice.randint(1, 6) if i else 1  # of which every cap has room for
        df = pd.DataFrame({"text": [f"{name} {i} {row}" for row in range(rows)]})
        try:
            cbp.batch(df, "{text}", shard_size=2, max_tokens=1_000, progress="none")
        except (CostLimitError, PausedError):
            continue


@pytest.mark.parametrize("seed", range(20 * SEED, 20 * SEED + (20 if SEED else 5)))
def test_two_kernels_never_pass_their_cap(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)  # noqa: S311 - dice
    faults = [on_post(**dice.choice(FATES)) for _ in range(dice.randint(0, 2))]
    emulator = Emulator(duration=dice.choice([0.0, 0.3]), faults=faults, rules=LONG)
    cap = dice.choice(CAPS)
    with serve(emulator=emulator) as url:
        lives = [
            processes.Process(target=spend, args=(url, tmp_path / "ledger", name, cap, seed))
            for name in ("a", "b")
        ]
        for life in lives:
            life.start()
        for life in lives:
            life.join(PATIENCE)
    assert [life.exitcode for life in lives] == [0, 0]
    assert billed(emulator) <= Decimal(cap)
    # What may have been accepted is taken for spent, so two lost answers can be all of the smallest.
    assert emulator.batches or len(faults) > 1
