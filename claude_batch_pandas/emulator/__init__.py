"""A local Message Batches API: for demos, for tests, for trying a run without a key.

It keeps batches in memory or in a folder, refuses what the API refuses when the API does, and
answers by simple rules; every answer says that it is simulated. It knows nothing of the rest of
the package. The README beside this file describes it.
"""

from __future__ import annotations

try:
    import werkzeug  # noqa: F401 - only asked whether it is there
except ImportError as error:
    message = (
        "The emulator needs Werkzeug; install it with: pip install 'claude-batch-pandas[emulator]'"
    )
    raise ImportError(message) from error

from claude_batch_pandas.emulator.app import Emulator
from claude_batch_pandas.emulator.clock import SimulatedClock
from claude_batch_pandas.emulator.failures import FAILURES, failure
from claude_batch_pandas.emulator.faults import Fault
from claude_batch_pandas.emulator.rules import Rule
from claude_batch_pandas.emulator.server import serve

__all__ = ["FAILURES", "Emulator", "Fault", "Rule", "SimulatedClock", "failure", "serve"]
