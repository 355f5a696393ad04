"""The tests that start kernels or loops, under ipykernels that people still have.

``make test`` runs them under the newest. Each older one has an environment of its own in
``.soak/``, which is made once, and brought up to date when ``pyproject.toml`` changes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".soak"
VERSIONS = ("6.31", "7.3")  # before subshells; and the last whose buttons act while a cell blocks
STARTS = re.compile(r"^from (nbclient|jupyter_client)\b", re.MULTILINE)  # kernels
ALSO = ("test_handles_kernels.py", "test_loops.py")


def loop(seed: int, folder: Path) -> list[str]:
    """Run them under one of the versions; return what is wrong."""
    version = VERSIONS[seed % len(VERSIONS)]
    try:
        python = environment(version)
    except subprocess.CalledProcessError as error:
        return [f"There is no environment with ipykernel {version}: {error.stderr[-4000:]}"]
    command = [
        *(str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *(f"--basetemp={folder / 'pytest'}", "-o", "faulthandler_timeout=0", *tests()),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    told = (done.stdout + done.stderr)[-4000:]
    return [] if done.returncode == 0 else [f"Under ipykernel {version}: {told}"]


def tests() -> list[str]:
    """Return the files of the tests."""
    paths = sorted((ROOT / "tests").glob("test_*.py"))
    return [str(path) for path in paths if path.name in ALSO or STARTS.search(path.read_text())]


def environment(version: str) -> Path:
    """Return the Python of an environment with the package and this ipykernel.

    Raises
    ------
    subprocess.CalledProcessError
        When it cannot be made, as without a network.
    """
    place = FOLDER / f"ipykernel-{version}"
    python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    made, wanted = place / "made-for.toml", (ROOT / "pyproject.toml").read_text()
    if made.exists() and made.read_text() == wanted:
        return python
    make, install = [sys.executable, "-m", "venv"], [str(python), "-m", "pip", "install"]
    if uv := shutil.which("uv"):
        make = [uv, "venv", "--python", sys.executable]
        install = [uv, "pip", "install", "--python", str(python)]
    if not made.exists():  # a start that was cut short leaves a part of one
        shutil.rmtree(place, ignore_errors=True)
        _run(*make, str(place))
    _run(*install, "--editable", f"{ROOT}[test]")
    _run(*install, f"ipykernel=={version}.*")  # at odds with the extra, which asks for a newer one
    made.write_text(wanted)
    return python


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
