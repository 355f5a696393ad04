"""``python -m tests.soak.fuzzing FOLDER [libFuzzer's options]``: look for bytes that break `fuzz`.

What it learns stays in the folder, so that it goes on where it was. Needs the extra ``soak``.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Fuzz until stopped."""
    import atheris

    with atheris.instrument_imports(include=["claude_batch_pandas.results", "tests.soak.fuzz"]):
        from tests.soak import fuzz

    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(fuzz.SEEDS):
        (folder / f"seed-{number}").write_bytes(seed)
    atheris.Setup(sys.argv, fuzz.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
